/** What the modules of the browser client share: errors, callbacks, times. */
import type { ErrorCode } from "./client-types.js";
/**
 * The reason of a failure: `code` is from the protocol (docs/protocol.md, section 5) or the client's
 * own (docs/browser.md).
 */
export declare class ChatError extends Error {
    code: ErrorCode;
    retryInMs: number | undefined;
    /**
     * For `unrecoverable`: the reason, and the topic's present position.
     *
     * @type {string | undefined}
     */
    reason: string | undefined;
    /** @type {string | undefined} */
    epoch: string | undefined;
    /** @type {number | undefined} */
    seq: number | undefined;
    /** Whether the rejected publication or change may be stored after all. */
    mayBeSent: boolean;
    /**
     * @param {ErrorCode} code
     * @param {string} message
     * @param {number} [retryInMs] when the server takes the command, as it says.
     */
    constructor(code: ErrorCode, message: string, retryInMs?: number);
    /** Whether the same command may succeed later. */
    get transient(): boolean;
}
/** Return the `ChatError` for a message of type `error`. */
export declare function toError({ code, message, retry_in_ms, reason, epoch, seq }: {
    code: any;
    epoch: any;
    message: any;
    reason: any;
    retry_in_ms: any;
    seq: any;
}): ChatError & {
    reason: any;
    epoch: any;
    seq: any;
};
/** Call the application's callback, if any; its exceptions are reported, and have no effect here. */
export declare function call(callback: any, ...values: any[]): void;
/** Call `callback` after `ms` milliseconds, bounded, because servers may send any number. */
export declare function later(callback: any, ms: any): number;
/**
 * Return a promise with the functions that settle it, as `Promise.withResolvers` does, which Node 20 lacks.
 *
 * @returns {{ promise: Promise<any>, resolve: (value?: any) => void, reject: (error?: any) => void }}
 */
export declare function withResolvers(): {
    promise: Promise<any>;
    resolve: (value?: any) => void;
    reject: (error?: any) => void;
};
/** A group of waits with a common end. */
export declare class Waits {
    #private;
    /** Return a promise that resolves after `ms` milliseconds, or at the next `end`. */
    until(ms: any): Promise<any>;
    end(): void;
}
/** Return `value` within bounds; `low` for non-numbers. */
export declare function clamp(value: any, low: any, high: any): any;
/** Return the milliseconds of a monotonic clock. */
export declare function now(): number;
/**
 * Return a function that returns the milliseconds since now, rather too many than too few.
 *
 * Some systems stop the monotonic clock during sleep. The wall clock goes on, but can be set.
 */
export declare function stopwatch(): () => number;
/** Return the wait before the next attempt: exponential backoff with jitter. */
export declare function backoff(attempts: any, longest?: number, first?: number): number;
/** Return the delay of a refused command: the server's, longer after each refusal in a row. */
export declare function retryDelay(error: any, refusals: any): number;
/** Return whether `value` can be a `seq`. */
export declare function isSeq(value: any): boolean;
/** Return the text of a message's data, which appends extend; undefined without a text. */
export declare function textOf(data: any): string | undefined;
/** Return the unverified claims of a token; an unreadable token has no claims. */
export declare function claims(token: any): any;
/**
 * Return `value` as JSON text without half surrogate pairs, which no UTF-8 can express.
 *
 * `replacer` is the one of `JSON.stringify`.
 */
export declare function toJson(value: any, replacer: any): string;
/**
 * Return a copy of a command as it will arrive, and its size: `{command, characters}`.
 *
 * What the application changes later is not what it asked to be sent. Throws a `ChatError` for what
 * JSON cannot express.
 */
export declare function copied(command: any): {
    command: any;
    characters: number;
};
