/** Listens to changes of the page's network, and to freezing and resuming of the page. */

/** Milliseconds for a sign of life of the server after the browser has reported a lost network. */
const OFFLINE_PATIENCE_MS = 3_000;

/**
 * Listen to all available events: a Web Worker has no document, and Node has no such events at all.
 *
 * @param {AbortSignal} signal ends the listening.
 * @param {object} told
 * @param {() => void} told.onChange the network may be back or another one, and the page is visible.
 * @param {(patienceMs: number) => void} told.onLoss the browser reports a lost network.
 * @param {() => void} told.onLeave the page goes into the back/forward cache, from which an open connection
 *   would keep the page, or in which the connection would break.
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
