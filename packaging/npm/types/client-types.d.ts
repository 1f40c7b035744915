/** Types of the server's messages (docs/protocol.md), for tsc; no other module loads this one. */
export {};
export type Position = {
    /**
     * changes only when the topic's stored order is lost.
     */
    epoch: string;
    seq: number;
};
export type User = {
    user: string;
    name?: string;
    info?: Record<string, any>;
};
export type Reaction = {
    count: number;
    /**
     * the first ten.
     */
    users: string[];
};
export type Placed = {
    topic: string;
    /**
     * the place in the topic's order.
     */
    seq: number;
    /**
     * milliseconds since 1970, by the store's clock.
     */
    at: number;
    from: User | null;
};
export type MessageFields = {
    type: "message";
    /**
     * any value of JSON; null of a deleted message.
     */
    data: any;
    /**
     * of a streaming message, also after its end.
     */
    state?: "streaming" | "complete" | "cancelled";
    /**
     * milliseconds since 1970.
     */
    edited_at?: number;
    deleted?: true;
    /**
     * by emoji.
     */
    reactions?: Record<string, Reaction>;
    /**
     * the `seq` of the last change in the message.
     */
    version?: number;
};
export type Message = Placed & MessageFields;
export type Edited = Placed & {
    type: "edited";
    target: number;
    data: any;
};
export type Appended = Placed & {
    type: "appended";
    target: number;
    text: string;
    length: number;
    first?: number;
    state?: "streaming" | "complete" | "cancelled";
};
export type Deleted = Placed & {
    type: "deleted";
    target: number;
};
export type Reacted = Placed & {
    type: "reaction";
    target: number;
    emoji: string;
    remove?: boolean;
};
export type Change = Edited | Appended | Deleted | Reacted;
export type Signal = {
    type: "signal";
    topic: string;
    at: number;
    from: User | null;
    data: any;
};
export type JoinOrLeave = User & {
    type: "join" | "leave";
    topic: string;
};
export type Read = {
    type: "read";
    topic: string;
    user: string;
    seq: number;
};
export type Gap = {
    type: "gap";
    topic: string;
    epoch: string;
    after: number;
    before: number;
    reason: string;
};
export type PresenceChange = {
    type: "presence";
    topic: string;
    count: number;
    connections: number;
    joined: User[];
    left: User[];
    more?: boolean;
};
export type ChatEvent = Message | Change | Signal | JoinOrLeave | PresenceChange | Read | Gap;
export type Published = {
    topic: string;
    seq: number;
    epoch: string;
    /**
     * milliseconds since 1970.
     */
    at: number;
    /**
     * whether an earlier publication with the same key stored it.
     */
    duplicate: boolean;
};
export type Changed = Published & {
    target: number;
};
export type Grown = Changed & {
    length: number;
};
export type History = {
    topic: string;
    epoch: string;
    messages: Message[];
    more: boolean;
};
export type ReadUpTo = {
    topic: string;
    seq: number;
    unread: number;
};
export type Unread = {
    read: number;
    seq: number;
    unread: number;
    more: boolean;
    last?: Message;
    readers?: {
        user: string;
        seq: number;
    }[];
};
export type Presence = {
    count: number;
    connections: number;
    users: (User & {
        connections: number;
    })[];
    more: boolean;
};
export type State = "connecting" | "online" | "reconnecting" | "closed";
export type ErrorCode = "bad_request" | "unauthorized" | "forbidden" | "not_found" | "gone" | "not_subscribed" | "already_subscribed" | "unrecoverable" | "too_large" | "too_many_topics" | "rate_limited" | "unavailable" | "internal" | "closed" | "connection_lost" | "cannot_connect" | "token_failed" | "unknown_outcome" | "outbox_full";
export type Socket = {
    send: (text: string) => void;
    close: () => void;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
};
export type SocketClass = new (url: string, protocols: string[]) => Socket;
export type ClientOptions = {
    /**
     * the address of the WebSocket; in a page also a relative address.
     */
    url: string;
    /**
     * a JWT, or a function that returns a fresh
     * one. It is called for each connection, and before the token expires.
     */
    token: string | (() => string | Promise<string>);
    onState?: (state: State, details: {
        error?: import("./client-common.js").ChatError;
        retryInMs?: number;
    }) => void;
    /**
     * milliseconds that the token function may take.
     */
    tokenTimeoutMs?: number;
    /**
     * the class to use where there is no global one.
     */
    WebSocket?: SocketClass;
};
export type SubscribeOptions = {
    /**
     * begin with this number of messages in their current state, 1 to 300.
     */
    last?: number;
    /**
     * begin behind this position, an earlier `Subscription.position`.
     */
    since?: Position;
    /**
     * end with the error `unrecoverable` instead of telling a gap when a
     * position cannot be resumed.
     */
    strict?: boolean;
    /**
     * also receive `join`, `leave` and `presence`.
     */
    presence?: boolean;
    /**
     * called with each event.
     */
    onEvent?: (event: ChatEvent) => void;
    /**
     * called each time the server has accepted the subscription.
     */
    onReady?: () => void;
    /**
     * called with the
     * error that ended the subscription or the client.
     */
    onError?: (error: import("./client-common.js").ChatError) => void;
};
export type SendOptions = {
    /**
     * the idempotency key, 1 to 64 characters.
     */
    key?: string;
    /**
     * called with the reason
     * for a delay.
     */
    onDelay?: (error: import("./client-common.js").ChatError) => void;
};
export type ChangeOptions = SendOptions & {
    epoch?: string;
};
/**
 * @typedef {object} Position where a topic stands: the event `seq` of one order.
 * @property {string} epoch changes only when the topic's stored order is lost.
 * @property {number} seq
 *
 * @typedef {object} User as the token of that time says.
 * @property {string} user
 * @property {string} [name]
 * @property {Record<string, any>} [info]
 *
 * @typedef {object} Reaction
 * @property {number} count
 * @property {string[]} users the first ten.
 *
 * @typedef {object} Placed
 * @property {string} topic
 * @property {number} seq the place in the topic's order.
 * @property {number} at milliseconds since 1970, by the store's clock.
 * @property {User | null} from
 *
 * @typedef {object} MessageFields
 * @property {"message"} type
 * @property {any} data any value of JSON; null of a deleted message.
 * @property {"streaming" | "complete" | "cancelled"} [state] of a streaming message, also after its end.
 * @property {number} [edited_at] milliseconds since 1970.
 * @property {true} [deleted]
 * @property {Record<string, Reaction>} [reactions] by emoji.
 * @property {number} [version] the `seq` of the last change in the message.
 *
 * @typedef {Placed & MessageFields} Message
 * @typedef {Placed & { type: "edited", target: number, data: any }} Edited
 * @typedef {Placed & {
 *   type: "appended", target: number, text: string, length: number, first?: number,
 *   state?: "streaming" | "complete" | "cancelled",
 * }} Appended
 * @typedef {Placed & { type: "deleted", target: number }} Deleted
 * @typedef {Placed & { type: "reaction", target: number, emoji: string, remove?: boolean }} Reacted
 * @typedef {Edited | Appended | Deleted | Reacted} Change
 *
 * @typedef {{ type: "signal", topic: string, at: number, from: User | null, data: any }} Signal
 * @typedef {User & { type: "join" | "leave", topic: string }} JoinOrLeave
 * @typedef {{ type: "read", topic: string, user: string, seq: number }} Read
 * @typedef {{
 *   type: "gap", topic: string, epoch: string, after: number, before: number, reason: string,
 * }} Gap nothing between `after` and `before` will come.
 * @typedef {{
 *   type: "presence", topic: string, count: number, connections: number,
 *   joined: User[], left: User[], more?: boolean,
 * }} PresenceChange
 *
 * @typedef {Message | Change | Signal | JoinOrLeave | PresenceChange | Read | Gap} ChatEvent
 *   Later versions of the server may add types of events.
 *
 * @typedef {object} Published the place of a message that is stored.
 * @property {string} topic
 * @property {number} seq
 * @property {string} epoch
 * @property {number} at milliseconds since 1970.
 * @property {boolean} duplicate whether an earlier publication with the same key stored it.
 *
 * @typedef {Published & { target: number }} Changed the place of a change.
 * @typedef {Changed & { length: number }} Grown `length` is the text's, in code points.
 * @typedef {{ topic: string, epoch: string, messages: Message[], more: boolean }} History
 * @typedef {{ topic: string, seq: number, unread: number }} ReadUpTo
 * @typedef {{
 *   read: number, seq: number, unread: number, more: boolean, last?: Message,
 *   readers?: { user: string, seq: number }[],
 * }} Unread `readers` if the server sends them, the furthest first.
 *
 * @typedef {object} Presence a page of those who are in a topic.
 * @property {number} count
 * @property {number} connections
 * @property {(User & { connections: number })[]} users
 * @property {boolean} more
 */
/**
 * @typedef {"connecting" | "online" | "reconnecting" | "closed"} State
 * @typedef {"bad_request" | "unauthorized" | "forbidden" | "not_found" | "gone" | "not_subscribed"
 *   | "already_subscribed" | "unrecoverable" | "too_large" | "too_many_topics" | "rate_limited"
 *   | "unavailable" | "internal"
 *   | "closed" | "connection_lost" | "cannot_connect" | "token_failed" | "unknown_outcome"
 *   | "outbox_full"} ErrorCode
 *
 * @typedef {object} Socket what the client needs of a WebSocket.
 * @property {(text: string) => void} send
 * @property {() => void} close
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 *
 * @typedef {new (url: string, protocols: string[]) => Socket} SocketClass
 *
 * @typedef {object} ClientOptions
 * @property {string} url the address of the WebSocket; in a page also a relative address.
 * @property {string | (() => string | Promise<string>)} token a JWT, or a function that returns a fresh
 *   one. It is called for each connection, and before the token expires.
 * @property {(state: State, details: { error?: import("./client-common.js").ChatError, retryInMs?: number }) => void} [onState]
 * @property {number} [tokenTimeoutMs] milliseconds that the token function may take.
 * @property {SocketClass} [WebSocket] the class to use where there is no global one.
 *
 * @typedef {object} SubscribeOptions
 * @property {number} [last] begin with this number of messages in their current state, 1 to 300.
 * @property {Position} [since] begin behind this position, an earlier `Subscription.position`.
 * @property {boolean} [strict] end with the error `unrecoverable` instead of telling a gap when a
 *   position cannot be resumed.
 * @property {boolean} [presence] also receive `join`, `leave` and `presence`.
 * @property {(event: ChatEvent) => void} [onEvent] called with each event.
 * @property {() => void} [onReady] called each time the server has accepted the subscription.
 * @property {(error: import("./client-common.js").ChatError) => void} [onError] called with the
 *   error that ended the subscription or the client.
 *
 * @typedef {object} SendOptions
 * @property {string} [key] the idempotency key, 1 to 64 characters.
 * @property {(error: import("./client-common.js").ChatError) => void} [onDelay] called with the reason
 *   for a delay.
 *
 * @typedef {SendOptions & { epoch?: string }} ChangeOptions `epoch` is that of the answer which named
 *   the `seq`, or of the subscription's `position` when the event came.
 */
