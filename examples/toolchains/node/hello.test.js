const assert = require("node:assert");
const test = require("node:test");

test("sum", () => assert.equal(1 + 2, 3));
test("product", () => assert.equal(2 * 3, 6));
