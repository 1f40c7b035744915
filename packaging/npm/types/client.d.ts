/**
 * A client of `chat.v1` for browsers: no dependencies, no build step. docs/browser.md describes it.
 *
 *     import { ChatClient } from "/static/client.js";
 *
 *     const chat = new ChatClient({ url: "ws://127.0.0.1:8000/ws", token });
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => console.log(event) });
 *     await chat.publish("room:lobby", { text: "hello" });
 *
 * The client reconnects by itself. Subscriptions resume at their positions, without a hole or a repeat; an
 * event of type `gap` reports events that are lost. Publications and changes without a connection are
 * kept, and later sent in the order of each topic, each once.
 */
import { ChatError } from "./client-common.js";
import { Messages, changed, isChange } from "./client-messages.js";
export { ChatError, Messages, changed, isChange };
export type ChangeOptions = import("./client-types.js").ChangeOptions;
export type Changed = import("./client-types.js").Changed;
export type ChatEvent = import("./client-types.js").ChatEvent;
export type ClientOptions = import("./client-types.js").ClientOptions;
export type ErrorCode = import("./client-types.js").ErrorCode;
export type Grown = import("./client-types.js").Grown;
export type History = import("./client-types.js").History;
export type Message = import("./client-types.js").Message;
export type Position = import("./client-types.js").Position;
export type Presence = import("./client-types.js").Presence;
export type Published = import("./client-types.js").Published;
export type ReadUpTo = import("./client-types.js").ReadUpTo;
export type SendOptions = import("./client-types.js").SendOptions;
export type State = import("./client-types.js").State;
export type SubscribeOptions = import("./client-types.js").SubscribeOptions;
export type Unread = import("./client-types.js").Unread;
export type Stream = import("./client-stream.js").Stream;
export type Subscription = import("./client-topics.js").Subscription;
export declare class ChatClient {
    #private;
    /**
     * Begin to connect.
     *
     * @param {ClientOptions} options
     */
    constructor(options: ClientOptions);
    /**
     * The user's name on the server, once connected.
     *
     * @returns {string | null}
     */
    get user(): string | null;
    /**
     * Receive a topic's events.
     *
     * @param {string} topic
     * @param {SubscribeOptions} [options]
     * @returns {Subscription}
     */
    subscribe(topic: string, options?: SubscribeOptions): Subscription;
    /**
     * End a subscription.
     *
     * @param {Subscription} subscription
     */
    unsubscribe(subscription: Subscription): void;
    /**
     * Append a message to a topic; resolves to `{seq, epoch, at, duplicate}` once it is stored.
     *
     * If the promise is rejected, `error.mayBeSent` tells whether the message may be stored all the same.
     * Messages of one topic leave one after the other, and so keep their order even if the server refuses one
     * for a while; the client then calls `onDelay`.
     *
     * @param {string} topic
     * @param {unknown} data any value that JSON can express, so not NaN; half surrogate pairs become U+FFFD.
     * @param {SendOptions} [options]
     * @returns {Promise<Published>}
     */
    publish(topic: string, data: unknown, options?: SendOptions): Promise<Published>;
    /**
     * Replace the data of the message `seq`.
     *
     * @param {string} topic
     * @param {number} seq
     * @param {unknown} data as in `publish`.
     * @param {ChangeOptions} [options]
     * @returns {Promise<Changed>}
     */
    edit(topic: string, seq: number, data: unknown, { epoch, ...options }?: ChangeOptions): Promise<Changed>;
    /**
     * Add to the text of the message `seq`; the answer has the text's `length` too.
     *
     * @param {string} topic
     * @param {number} seq
     * @param {string} text may be empty if `state` ends the message.
     * @param {ChangeOptions & { state?: "complete" | "cancelled" }} [options] after a `state` nothing can
     *   be added.
     * @returns {Promise<Grown>}
     */
    append(topic: string, seq: number, text: string, { epoch, state, ...options }?: ChangeOptions & {
        state?: "complete" | "cancelled";
    }): Promise<Grown>;
    /**
     * Delete the data of the message `seq` for good.
     *
     * @param {string} topic
     * @param {number} seq
     * @param {ChangeOptions} [options]
     * @returns {Promise<Changed>}
     */
    delete(topic: string, seq: number, { epoch, ...options }?: ChangeOptions): Promise<Changed>;
    /**
     * Add the user's reaction to the message `seq`, or remove the reaction with `remove: true`.
     *
     * @param {string} topic
     * @param {number} seq
     * @param {string} emoji one visible character.
     * @param {ChangeOptions & { remove?: boolean }} [options]
     * @returns {Promise<Changed>}
     */
    react(topic: string, seq: number, emoji: string, { epoch, remove, ...options }?: ChangeOptions & {
        remove?: boolean;
    }): Promise<Changed>;
    /**
     * Note that the user has read up to `seq`.
     *
     * @param {string} topic
     * @param {number} seq
     * @param {ChangeOptions} [options]
     * @returns {Promise<ReadUpTo>}
     */
    read(topic: string, seq: number, { epoch, ...options }?: ChangeOptions): Promise<ReadUpTo>;
    /**
     * Publish a streaming message; resolves to its stream: `write(text)`, `complete()`, `cancel()`.
     *
     * Text written while an append is under way leaves with the next append. If the store has lost the
     * message, the next append fails as `not_found`, and never reaches another message.
     *
     * @param {string} topic
     * @param {{ data?: string | { text: string, [name: string]: unknown } }} [options]
     * @returns {Promise<Stream>}
     */
    stream(topic: string, { data }?: {
        data?: string | {
            text: string;
            [name: string]: unknown;
        };
    }): Promise<Stream>;
    /**
     * Send `data` to the present subscribers; rejected without a connection.
     *
     * @param {string} topic
     * @param {unknown} data any value that JSON can express.
     * @returns {Promise<void>}
     */
    signal(topic: string, data: unknown): Promise<void>;
    /**
     * Signal that the user is typing; to be called at each key. Every 3 seconds one call is sent.
     *
     * Receivers of `{typing: true}` show the user as typing for 6 seconds.
     *
     * @param {string} topic
     */
    typing(topic: string): void;
    /**
     * Ask the author of the streaming message `seq` to end it.
     *
     * @param {string} topic
     * @param {number} seq
     */
    cancel(topic: string, seq: number): Promise<void>;
    /**
     * Read stored messages: the newest with a `seq` lower than `before`, or the oldest with a higher one
     * than `after`; at most `limit`, 1 to 300.
     *
     * @param {string} topic
     * @param {{ before?: number, after?: number, limit?: number }} [options]
     * @returns {Promise<History>}
     */
    history(topic: string, { before, after, limit }?: {
        before?: number;
        after?: number;
        limit?: number;
    }): Promise<History>;
    /**
     * Read the position of a topic, by HTTP; resolves to `{epoch, seq}`.
     *
     * The caller may then load a snapshot, and subscribe with the position as `since`.
     *
     * @param {string} topic
     * @returns {Promise<Position>}
     */
    position(topic: string): Promise<Position>;
    /**
     * Count the user's unread messages, by topic.
     *
     * @param {...(string | { readers?: boolean })} topics the last argument may be options: `readers` asks for
     *   the read cursors of others, too.
     * @returns {Promise<Record<string, Unread>>}
     */
    unread(...topics: (string | {
        readers?: boolean;
    })[]): Promise<Record<string, Unread>>;
    /**
     * Read the users present in a topic: users behind `after`, for the next page; at most `limit`, 1 to 1,000.
     *
     * @param {string} topic
     * @param {{ after?: string, limit?: number }} [options]
     * @returns {Promise<Presence>}
     */
    presence(topic: string, { after, limit }?: {
        after?: string;
        limit?: number;
    }): Promise<Presence>;
    /**
     * Call a method of the application around the server; resolves to the method's result.
     *
     * The call is sent once. After a rejection with `connection_lost`, the call may have had effects.
     *
     * @param {string} method
     * @param {unknown} [data] any value that JSON can express.
     * @returns {Promise<any>}
     */
    call(method: string, data?: unknown): Promise<any>;
    /** Close for good: no timer, listener or socket of the client is left. */
    close(): void;
    /** The same as `close`. */
    dispose(): void;
}
