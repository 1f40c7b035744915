/** What stands in the page's address: a room, and in a link also a token. */

/** What may follow `room:` in a topic (docs/protocol.md, section 1). */
const ROOM = /^[A-Za-z0-9._~@-]+(:[A-Za-z0-9._~@-]+)*$/;
const MAX_ROOM = 200;
const INVITATION = /^[\w-]{1,256}$/;
const TOKEN = /^[\w-]+\.[\w-]+\.[\w-]*$/;

export function isRoom(text) {
  return text.length <= MAX_ROOM && ROOM.test(text);
}

export function isToken(text) {
  return TOKEN.test(text);
}

export function topicOf(room) {
  return `room:${room}`;
}

/** Return the room of a topic, or null if it is no room's. */
export function roomOf(topic) {
  return topic.startsWith("room:") ? topic.slice("room:".length) : null;
}

export function webSocketUrl() {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = url.hash = "";
  return url.href;
}

/** Return the address of a room, or of a message in it, as a part of this page's. */
export function permalink(room, seq = null) {
  const place = `#room=${encodeURIComponent(room)}`;
  return seq === null ? place : `${place}&seq=${seq}`;
}

/** Return what the address holds, and take what is secret out: others may see it. */
export function takeFragment() {
  const values = new URLSearchParams(location.hash.slice(1));
  const [token, room, seq] = [values.get("token"), values.get("room"), Number(values.get("seq"))];
  const invitation = values.get("invitation");
  if (token !== null || invitation !== null) history.replaceState(null, "", location.pathname + location.search);
  return {
    token: token !== null && isToken(token) ? token : null,
    room: room !== null && isRoom(room) ? room : null,
    seq: Number.isSafeInteger(seq) && seq > 0 ? seq : null,
    invitation: invitation !== null && INVITATION.test(invitation) ? invitation : null,
  };
}

/** Show a room, or a message in it, in the address; with `isNew` the browser's Back leads to the one before. */
export function showAddress(room, seq = null, isNew = false) {
  const hash = permalink(room, seq);
  if (location.hash === hash) return;
  if (isNew) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}
