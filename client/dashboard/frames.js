/**
 * @param {(nowMs: number) => boolean | void} paint returns whether the next frame will differ without any news
 * @returns {() => void} asks for a frame; asked a thousand times before the next one, it is painted once
 */
export function onFrame(paint) {
  let isAsked = false;
  const ask = () => {
    if (!isAsked) requestAnimationFrame(run);
    isAsked = true;
  };
  const run = (nowMs) => {
    isAsked = false;
    if (paint(nowMs)) ask();
  };
  return ask;
}
