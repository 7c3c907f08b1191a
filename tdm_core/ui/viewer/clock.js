// One clock for all panes. It counts frames: which one is shown is a number, not a time.

const RATES = [0.25, 0.5, 1, 2];

/** A clock that calls `paint()` whenever its frame has changed, and `changed()` when anything else has. */
export function makeClock({ paint, changed, alive }) {
  let from = 0, start = 0, request = 0;

  const clock = {
    frame: 0, frames: 1, fps: 8, rate: 1, playing: false, loop: null,
    get span() { return clock.loop ?? [0, clock.frames - 1]; },

    /** A new length; the frame and the loop stay where they still make sense. */
    reset(frames, fps) {
      if (frames === clock.frames && fps === clock.fps) return;
      Object.assign(clock, { frames, fps });
      if (clock.loop && clock.loop[1] >= frames) clock.loop = null;
      clock.seek(Math.min(clock.frame, frames - 1));
      if (frames < 2) clock.pause();
      changed();
    },
    seek(frame) {
      [from, start] = [Math.min(Math.max(Math.round(frame), 0), clock.frames - 1), performance.now()];
      show(from);
    },
    play() {
      if (clock.playing || clock.frames < 2) return;
      const [first, last] = clock.span;
      clock.playing = true;
      clock.seek(clock.frame < first || clock.frame > last ? first : clock.frame);
      request = requestAnimationFrame(run);
      changed();
    },
    pause() {
      cancelAnimationFrame(request);
      if (!clock.playing) return;
      clock.playing = false;
      changed();
    },
    step(by) {
      clock.pause();
      clock.seek((clock.frame + by + clock.frames) % clock.frames);
    },
    faster(by) {
      const index = RATES.indexOf(clock.rate) + by;
      clock.rate = RATES[Math.min(Math.max(index, 0), RATES.length - 1)];
      clock.seek(clock.frame);
      changed();
    },
    nextRate() { clock.rate === RATES.at(-1) ? clock.faster(-RATES.length) : clock.faster(1); },
    /** Start ("in") or end ("out") of the loop at the present frame; nothing clears it. */
    mark(end) {
      const [first, last] = clock.span, frame = clock.frame;
      const marked = { in: [frame, Math.max(frame, last)], out: [Math.min(first, frame), frame] }[end] ?? null;
      clock.loop = marked && marked[0] < marked[1] ? marked : null;
      clock.seek(frame);
      changed();
    },
  };

  function show(frame) {
    if (frame === clock.frame) return;
    clock.frame = frame;
    paint();
  }

  function run(now) {
    if (!alive()) return clock.pause();
    const [first, last] = clock.span, gone = Math.floor((Math.max(now - start, 0) / 1000) * clock.fps * clock.rate);
    show(first + ((from - first + gone) % (last - first + 1)));
    request = requestAnimationFrame(run);
  }

  return clock;
}
