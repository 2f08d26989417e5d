const { Worker, isMainThread, workerData } = require("node:worker_threads");

if (isMainThread) {
  const sum = new Int32Array(new SharedArrayBuffer(4));
  let left = 8;
  for (let number = 1; number <= 8; number++) {
    new Worker(__filename, { workerData: { sum, number } }).on("exit", () => {
      left -= 1;
      if (left === 0) console.log(sum[0]);
    });
  }
} else {
  Atomics.add(workerData.sum, 0, workerData.number);
}
