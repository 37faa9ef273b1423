import assert from "node:assert/strict";
import test from "node:test";
import { duration } from "./duration.mjs";

test("durations read as the server writes them", () => {
  const wanted = { 1900: "1.9 s", 37400: "37 s", 252000: "4m 12s", 11520000: "3h 12m", 100800000: "1d 4h" };
  for (const [ms, text] of Object.entries(wanted)) assert.equal(duration(Number(ms)), text);
});
