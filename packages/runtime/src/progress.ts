import type { Clock } from './clock.ts'

/** What is shown of a long piece of work. */
export type Progress = {
  /** Adds work that is done. */
  add: (count: number) => void
  /** Ends the display, with a last line where anything was shown. */
  end: () => void
}

/** Shorter work shows nothing. */
const SHOWN_AFTER_MS = 2_000
const REDRAWN_EVERY_MS = 200
/** Where no terminal redraws a line, each state is a line of its own. */
const LINE_EVERY_MS = 10_000
const BAR_WIDTH = 24

const durationOf = (seconds: number): string => {
  const whole = Math.ceil(seconds)
  const parts = [Math.floor(whole / 3_600), Math.floor(whole / 60) % 60, whole % 60]
  return parts.map(part => String(part).padStart(2, '0')).join(':')
}

/**
 * Shows how far a piece of work of `total` units is, its rate and the time left, once it takes longer than two seconds:
 * one line that is redrawn on a terminal, a plain line now and then elsewhere. Standard output stays for results.
 */
export const showProgress = (options: {
  what: string
  total: number
  clock: Clock
  stream: { write: (text: string) => unknown; isTTY?: boolean }
}): Progress => {
  const { what, total, clock, stream } = options
  const since = clock.elapsed()
  let done = 0
  let shownAt: number | undefined

  const line = (now: number): string => {
    const share = total > 0 ? Math.min(1, done / total) : 1
    const perSecond = done / Math.max(0.001, (now - since) / 1_000)
    const filled = Math.round(share * BAR_WIDTH)
    const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`
    const left = perSecond > 0 ? durationOf(Math.max(0, total - done) / perSecond) : '?'
    return `${what} ${bar} ${Math.floor(share * 100)}% ${done}/${Math.max(done, total)}, ${Math.round(perSecond)}/s, ${left} left`
  }
  const show = (now: number) => {
    stream.write(stream.isTTY ? `\r\u001b[2K${line(now)}` : `${line(now)}\n`)
    shownAt = now
  }

  return {
    add: count => {
      done += count
      const now = clock.elapsed()
      const pauseMs = stream.isTTY ? REDRAWN_EVERY_MS : LINE_EVERY_MS
      if (now - since >= SHOWN_AFTER_MS && (shownAt === undefined || now - shownAt >= pauseMs)) show(now)
    },
    end: () => {
      if (shownAt === undefined) return
      show(clock.elapsed())
      if (stream.isTTY) stream.write('\n')
    },
  }
}
