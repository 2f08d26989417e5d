const assert = require("node:assert");
const test = require("node:test");

test("word", () => assert.equal(require("word"), "hello"));
