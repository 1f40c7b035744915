/** Keeps the browser client connected: replaces lost connections until the client ends. */
import { ChatError } from "./client-common.js";
import { Connection } from "./client-connection.js";
import type { ClientOptions, Position } from "./client-types.js";
export declare class Link {
    #private;
    /** @type {string | null} */
    user: string | null;
    /** The connection that takes commands, or null. */
    online: null;
    /**
     * Begin to connect.
     *
     * @param {ClientOptions} options
     * @param {object} owner
     * @param {(connection: Connection) => void} owner.onOnline
     * @param {() => void} owner.onOffline called also where nobody was online.
     * @param {(message: any) => void} owner.onPush called with each message that answers no command.
     * @param {(error: ChatError) => void} owner.onEnd called once.
     */
    constructor({ url, token, onState, tokenTimeoutMs, WebSocket, }: ClientOptions, owner: {
        onOnline: (connection: Connection) => void;
        onOffline: () => void;
        onPush: (message: any) => void;
        onEnd: (error: ChatError) => void;
    });
    /** The error that ended the client, if one has. */
    get closed(): any;
    /** Send a command that stores nothing, without waiting for a connection. */
    ask(command: any): any;
    /**
     * Ask for a topic's position by HTTP.
     *
     * @param {string} topic
     * @returns {Promise<Position>}
     */
    position(topic: string): Promise<Position>;
    /** End for good. */
    end(error: any): void;
}
