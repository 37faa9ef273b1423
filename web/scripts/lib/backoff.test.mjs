import assert from "node:assert/strict";
import { test } from "node:test";
import { delay } from "./backoff.mjs";

test("waits double up to fifteen seconds and are spread", () => {
  assert.equal(delay(0, 0.5), 500);
  assert.equal(delay(3, 0.5), 4000);
  assert.equal(delay(30, 0.5), 15000);
  assert.ok(delay(0, 0) === 350 && delay(0, 1) === 650);
});
