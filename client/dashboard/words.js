/** A connection state as a sentence. */
export function stateInWords(state) {
  switch (state.name) {
    case "connecting":
      return state.attempt === 1 ? "connecting" : `connecting, attempt ${state.attempt}`;
    case "live":
      return "live";
    case "catching_up":
      return "catching up";
    case "waiting":
      return `waiting ${(state.retryInMs / 1000).toFixed(1)} s, because ${state.because}`;
    case "closed":
      return `closed: ${state.reason}`;
  }
}

/** What a REPLAY_END says, for people. */
export function replayInWords({ count, complete, reason }) {
  if (!complete) return `not everything could be sent again (${reason}); the statuses are those of now`;
  if (count === 0) return "caught up: nothing was missed";
  return `caught up: ${count} missed event${count === 1 ? "" : "s"} came after all`;
}

/** How long ago, in the largest unit that fits. */
export function ago(timestamp, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - Date.parse(timestamp)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** An estimate of the remaining seconds, in the largest unit that fits; nothing while it is unknown. */
export function remaining(seconds) {
  if (seconds === null) return "";
  if (seconds === 0) return "any moment";
  if (seconds <= 60) return `${Math.ceil(seconds)} s left`;
  if (seconds <= 3600) return `${Math.ceil(seconds / 60)} min left`;
  return `${Math.ceil(seconds / 3600)} h left`;
}
