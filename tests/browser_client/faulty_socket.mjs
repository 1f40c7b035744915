/** A WebSocket for Node over plain sockets, with faults: as much of RFC 6455 as the client needs. */

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

const OPCODES = { text: 1, close: 8, ping: 9, pong: 10 };

/** A random number generator that repeats itself for the same seed (mulberry32). */
export function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  next.chance = (probability) => next() < probability;
  next.between = (low, high) => low + (high - low) * next();
  next.pick = (values) => values[Math.floor(next() * values.length)];
  return next;
}

/** What can go wrong between a client and its server; `counts` tells what did. */
export class Faults {
  counts = { refused: 0, cut: 0, lost: 0, outages: 0, swallowed: 0, stalled: 0, closed: 0 };
  active = true;
  #awayUntil = 0;

  constructor(random, outageMs) {
    this.random = random;
    this.outageMs = outageMs;
  }

  count(name) {
    this.counts[name] += 1;
    return true;
  }

  chance(name, probability) {
    return this.active && this.random.chance(probability) && this.count(name);
  }

  /** Nothing can be reached for a while: longer than a key is remembered. */
  beginOutage() {
    this.#awayUntil = performance.now() + this.outageMs;
    this.count("outages");
  }

  get away() {
    return this.active && performance.now() < this.#awayUntil;
  }
}

/** Return a WebSocket class whose connections suffer `faults`. */
export function faultyWebSocket(faults) {
  return class {
    onmessage = null;
    onclose = null;
    onerror = null;
    #socket;
    #input = Buffer.alloc(0);
    #upgraded = false;
    #over = false;
    #stalled = false;
    #cut;

    constructor(url, protocols) {
      const { hostname, port, pathname } = new URL(url);
      if (faults.away || faults.chance("refused", 0.2)) {
        setTimeout(() => this.#end(1006, ""), 5);
        return;
      }
      this.#socket = connect({ host: hostname, port: Number(port), noDelay: true });
      const key = randomBytes(16).toString("base64");
      this.#socket.write(
        `GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\n` +
          `Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n` +
          `Sec-WebSocket-Protocol: ${protocols.join(", ")}\r\n\r\n`,
      );
      this.#socket.on("data", (data) => this.#read(data));
      this.#socket.on("error", () => {});
      this.#socket.on("close", () => this.#end(1006, ""));
      const lastsMs = faults.random.between(200, 3_000);
      this.#cut = setTimeout(() => faults.active && this.#break(), lastsMs);
    }

    send(text) {
      if (this.#over) return;
      // What is sent into a stalled connection never arrives, and not later either.
      if (!this.#stalled) this.#write(OPCODES.text, Buffer.from(text));
    }

    close() {
      if (!this.#over && this.#upgraded) this.#write(OPCODES.close, Buffer.from([3, 232]));
      this.#over = true;
      clearTimeout(this.#cut);
      this.#socket?.destroySoon();
    }

    /** End it in one of the ways in which connections end. */
    #break() {
      if (faults.chance("stalled", 0.1)) this.#stalled = true;
      else if (faults.chance("closed", 0.3)) this.#end(faults.random.pick([1000, 1001, 1006]), "");
      else if (faults.count("cut")) this.#socket.destroy();
    }

    #read(data) {
      if (this.#stalled) return;
      this.#input = Buffer.concat([this.#input, data]);
      if (!this.#upgraded) {
        const end = this.#input.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!this.#input.subarray(0, end).toString().startsWith("HTTP/1.1 101")) {
          this.#socket.destroy();
          return;
        }
        this.#upgraded = true;
        this.#input = this.#input.subarray(end + 4);
      }
      for (let frame = this.#next(); frame && !this.#over; frame = this.#next()) this.#take(frame);
    }

    /** Take one frame off the input, if it is there as a whole. */
    #next() {
      const input = this.#input;
      if (input.length < 2) return null;
      let [start, length] = [2, input[1] & 127];
      if (length === 126) {
        if (input.length < 4) return null;
        [start, length] = [4, input.readUInt16BE(2)];
      } else if (length === 127) {
        if (input.length < 10) return null;
        [start, length] = [10, Number(input.readBigUInt64BE(2))];
      }
      if (input.length < start + length) return null;
      this.#input = input.subarray(start + length);
      return { opcode: input[0] & 15, payload: input.subarray(start, start + length) };
    }

    #take({ opcode, payload }) {
      if (opcode === OPCODES.text) this.#takeText(payload.toString());
      else if (opcode === OPCODES.ping) this.#write(OPCODES.pong, payload);
      else if (opcode === OPCODES.close) {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#end(code, payload.subarray(2).toString());
      }
    }

    #takeText(data) {
      // The answer to a publication, which alone has both of these.
      if (data.startsWith('{"type":"ok"') && data.includes('"duplicate":')) {
        if (faults.chance("swallowed", 0.002)) return;
        if (faults.chance("lost", 0.006)) {
          if (faults.random.chance(0.4)) faults.beginOutage();
          this.#socket.destroy();
          this.#end(1006, "");
          return;
        }
      }
      this.onmessage?.({ data });
    }

    #write(opcode, payload) {
      const head = [128 | opcode];
      if (payload.length < 126) head.push(128 | payload.length);
      else if (payload.length < 65_536) head.push(254, payload.length >> 8, payload.length & 255);
      else {
        const length = Buffer.alloc(8);
        length.writeBigUInt64BE(BigInt(payload.length));
        head.push(255, ...length);
      }
      const mask = randomBytes(4);
      const masked = Buffer.from(payload);
      for (let index = 0; index < masked.length; index += 1) masked[index] ^= mask[index & 3];
      this.#socket.write(Buffer.concat([Buffer.from(head), mask, masked]));
    }

    #end(code, reason) {
      if (this.#over) return;
      this.#over = true;
      clearTimeout(this.#cut);
      this.#socket?.destroy();
      this.onclose?.({ code, reason });
    }
  };
}
