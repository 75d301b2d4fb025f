/** A burst of answers of this kind is one reason to reconnect, not one each. */
const PAUSE_MS = 500;

/**
 * Whether Redis answered that this server is not the primary any more, or not that of our slot; or has no replicas, and
 * so may be one that was cut off while another was made the primary. In answers of scripts the word stands further back.
 */
export function isElsewhere(error: Error): boolean {
  return /(^|\W)(READONLY|MOVED|ASK|NOREPLICAS|CLUSTERDOWN)\s/.test(error.message);
}

/**
 * For ioredis' `reconnectOnError`: whoever connects again is led to the primary.
 * @param onLeaving told why
 */
export function whenElsewhere(onLeaving: (error: Error) => void = () => {}): (error: Error) => boolean {
  let last = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (!isElsewhere(error) || performance.now() - last < PAUSE_MS) return false;
    last = performance.now();
    onLeaving(error);
    return true;
  };
}
