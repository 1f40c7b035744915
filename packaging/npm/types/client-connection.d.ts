/** One WebSocket of the browser client, from its opening to its end. */
/** An open WebSocket: matches answers to commands, renews the token, and detects a dead connection. */
export declare class Connection {
    #private;
    /** `welcome.user` and `welcome.limits`, after the welcome. */
    user: null;
    limits: null;
    /** Milliseconds for which the server remembers idempotency keys. */
    idempotencyMs: number;
    /**
     * Begin to connect.
     *
     * @param {object} options
     * @param {WebSocket} options.socket a new one.
     * @param {string} options.token the token in the handshake.
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
     * Commands wait while the token is being renewed. A command refused for an expired token is sent
     * again.
     *
     * @param {object} command the command, without `id`.
     * @param {object} [options]
     * @param {function} [options.onSent] called at each sending.
     * @param {function} [options.onRefused] called before another sending: the last one had no effect.
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
     * End the connection, unless it has ended.
     *
     * @param {number} code the close code; 0 if the client ends the connection.
     * @param {string} reason
     * @param {boolean} blamed whether an unanswered command may be the cause.
     */
    end(code: number, reason: string, blamed?: boolean): void;
}
