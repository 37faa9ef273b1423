// What every page needs: live updates and the few elements that have behaviour.
import "./elements/log-view";
import "./elements/copy-button";
import { follow } from "./live/client";
import { tick } from "./live/ticking";

document.cookie = `tz=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; max-age=31536000; samesite=lax`;
follow(document);
tick(document);
