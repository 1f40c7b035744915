/** What the modules of the browser client share: errors, callbacks, times. */
import type { ErrorCode } from "./client-types.js";
/**
 * Why something failed: `code` is one of the protocol (docs/protocol.md, section 5) or of the
 * client's own (docs/browser.md).
 */
export declare class ChatError extends Error {
    code: ErrorCode;
    retryInMs: number | undefined;
    /**
     * Of `unrecoverable`: why, and where the topic stands now.
     *
     * @type {string | undefined}
     */
    reason: string | undefined;
    /** @type {string | undefined} */
    epoch: string | undefined;
    /** @type {number | undefined} */
    seq: number | undefined;
    /** Whether what was rejected with this error, a publication or change, may be stored after all. */
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
/** Return the `ChatError` that a message of type `error` tells of. */
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
/** Call a function of the application, if it gave one: what it throws is reported, and changes nothing here. */
export declare function call(callback: any, ...values: any[]): void;
/** Call `callback` after `ms` milliseconds, whatever number a server made of them. */
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
/** Waits that can all be ended at once. */
export declare class Waits {
    #private;
    /** Return a promise that resolves after `ms` milliseconds, or at the next `end`. */
    until(ms: any): Promise<any>;
    end(): void;
}
/** Return `value` within bounds; `low` for anything that is no number. */
export declare function clamp(value: any, low: any, high: any): any;
/** Return milliseconds on a clock that nobody can put back. */
export declare function now(): number;
/**
 * Return a function that tells the milliseconds since now, and rather too many than too few.
 *
 * Some systems stop the monotonic clock while they sleep; the other clock goes on, but can be set.
 */
export declare function stopwatch(): () => number;
/** Return how long to wait before the next of several attempts: growing, and never all alike. */
export declare function backoff(attempts: any, longest?: number, first?: number): number;
/** Return when to repeat a refused command: as the server asked, and later each time in a row. */
export declare function retryDelay(error: any, refusals: any): number;
/** Return whether `value` can be a `seq`. */
export declare function isSeq(value: any): boolean;
/** Return the text of a message's data, to which appends add; undefined if there is none. */
export declare function textOf(data: any): string | undefined;
/** Return what a token says, unverified; nothing of one that cannot be read. */
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
