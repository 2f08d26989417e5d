// Waits for one piece of JavaScript, and runs it: see "The runtime's lines" in docs/protocol.md.
(function () {
  'use strict';
  const fs = require('fs');
  const path = require('path');
  const util = require('util');
  const vm = require('vm');
  const Module = require('module');

  const SOCKET = 3;

  function writeAll(text) {
    const bytes = Buffer.from(text, 'utf8');
    for (let sent = 0; sent < bytes.length; ) {
      sent += fs.writeSync(SOCKET, bytes, sent);
    }
  }

  function readLine() {
    const pieces = [];
    for (;;) {
      const piece = Buffer.alloc(65536);
      const length = fs.readSync(SOCKET, piece, 0, piece.length, null);
      if (length === 0) process.exit(0); // the sandbox ends
      pieces.push(piece.subarray(0, length));
      if (piece[length - 1] === 10) return Buffer.concat(pieces).toString('utf8');
    }
  }

  writeAll('ready\n');
  const request = JSON.parse(readLine());
  for (const name of Object.keys(process.env)) {
    if (!(name in request.env)) delete process.env[name];
  }
  Object.assign(process.env, request.env);

  const messages = [];
  let room = request.options.limit - 256;
  let dropped = false;

  // The field of this name is shortened if there is no room for all of it.
  function add(message, name) {
    let line = JSON.stringify(message) + '\n';
    if (Buffer.byteLength(line) > room) {
      dropped = true;
      message.cut = true;
      for (let size; (size = Buffer.byteLength(line)) > room && message[name].length > 0; ) {
        message[name] = message[name].slice(0, Math.floor((message[name].length * Math.max(room, 0)) / (size + 8)));
        line = JSON.stringify(message) + '\n';
      }
    }
    if (Buffer.byteLength(line) <= room) {
      room -= Buffer.byteLength(line);
      messages.push(line);
    }
  }

  process.on('exit', () => {
    try {
      writeAll(messages.join('') + JSON.stringify({ t: 'done', dropped }) + '\n');
    } catch (error) {
      // the code has closed the socket
    }
  });

  function fail(error) {
    const isError = error instanceof Error;
    const traceback = isError && error.stack ? String(error.stack) + '\n' : `Uncaught ${util.inspect(error)}\n`;
    add({ t: 'error', name: isError ? String(error.name) : 'Error', value: isError ? String(error.message) : util.inspect(error), traceback }, 'traceback');
    fs.writeSync(2, traceback);
    process.exit(1);
  }

  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  globalThis.require = Module.createRequire(path.join(process.cwd(), 'code.js'));
  globalThis.module = new Module('code');
  globalThis.exports = module.exports;
  try {
    const value = new vm.Script(request.code, { filename: 'code.js' }).runInThisContext();
    if (value !== undefined) add({ t: 'text', repr: util.inspect(value) }, 'repr');
  } catch (error) {
    fail(error);
  }
})();
