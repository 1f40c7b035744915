/** What a page hears of its network, and of being put away and taken out again. */

/** How long a server may take for a sign of life once the network is said to be gone. */
const OFFLINE_PATIENCE_MS = 3_000;

/**
 * Listen to what there is: a Web Worker has no document, and Node has neither.
 *
 * @param {AbortSignal} signal ends it.
 * @param {object} told
 * @param {() => void} told.onChange the network may be back or another one, and somebody looks.
 * @param {(patienceMs: number) => void} told.onLoss the network is said to be gone.
 * @param {() => void} told.onLeave the browser keeps the page for the Back button: with an open connection
 *   it would not, or would break that.
 * @param {() => void} told.onReturn the page may be shown again.
 */
export function watchNetwork(signal, { onChange, onLoss, onLeave, onReturn }) {
  const { document } = globalThis;
  const changed = () => document?.visibilityState !== "hidden" && onChange();
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const heard = [
    [globalThis, "online", changed],
    [globalThis, "offline", () => onLoss(OFFLINE_PATIENCE_MS)],
    [globalThis, "pagehide", ({ persisted }) => persisted && onLeave()],
    [globalThis, "pageshow", onReturn],
    [document, "visibilitychange", changed],
    [document, "resume", changed],
  ];
  for (const [target, name, listener] of heard) {
    target?.addEventListener?.(name, listener, { signal });
  }
}
