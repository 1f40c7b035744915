/** One WebSocket of the browser client, from its opening to its end. */
/** An open WebSocket: matches answers to commands, renews its token, and notices when it is dead. */
export declare class Connection {
    #private;
    /** `welcome.user` and `welcome.limits`, once it came. */
    user: null;
    limits: null;
    /** For how long the server remembers a publication's key. */
    idempotencyMs: number;
    /**
     * Begin to connect.
     *
     * @param {object} options
     * @param {WebSocket} options.socket a new one.
     * @param {string} options.token what the socket was opened with.
     * @param {import("./client-token.js").Tokens} options.tokens
     * @param {function} options.onWelcome called once commands can be sent.
     * @param {function} options.onPush called with each message that answers no command.
     * @param {function} options.onEnd called once, with `{code, reason, goodbye, lastedMs}`;
     *   `lastedMs` is null if no welcome came.
     */
    constructor({ socket, token, tokens, ...owner }: {
        socket: WebSocket;
        token: string;
        tokens: import("./client-token.js").Tokens;
        onWelcome: Function;
        onPush: Function;
        onEnd: Function;
    });
    /**
     * Send a command and return a promise of its answer.
     *
     * While the token is being renewed the command waits, and one that the server refused because the
     * token had expired is sent again.
     *
     * @param {object} command what to send, without `id`.
     * @param {object} [options]
     * @param {function} [options.onSent] called when it leaves, each time.
     * @param {function} [options.onRefused] called when it is to be sent again: nothing came of it.
     * @param {function} [options.onAnswer] called with the answer before any later message is read.
     */
    command(command: object, options?: {
        onSent?: Function;
        onRefused?: Function;
        onAnswer?: Function;
    }): Promise<any>;
    /** Ask for a sign of life; without one within `patienceMs` the connection has ended. */
    checkLife(patienceMs?: number): void;
    /**
     * End the connection, unless that has happened.
     *
     * @param {number} code the close code; 0 if it is ended from here.
     * @param {string} reason
     * @param {boolean} blamed whether a command without an answer may be why.
     */
    end(code: number, reason: string, blamed?: boolean): void;
}
