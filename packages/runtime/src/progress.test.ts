import { expect, test } from 'vitest'
import { showProgress } from './progress.ts'

const start = (isTTY: boolean) => {
  let now = 0
  const written: string[] = []
  const progress = showProgress({
    what: 'reading',
    total: 100,
    clock: { now: () => 0, elapsed: () => now, after: () => () => {} },
    stream: { write: text => written.push(text), isTTY },
  })
  const after = (ms: number, count: number) => {
    now += ms
    progress.add(count)
  }
  return { after, end: progress.end, written }
}

test('work of less than two seconds shows nothing', () => {
  const { after, end, written } = start(true)
  after(1_999, 100)
  end()
  expect(written).toEqual([])
})

test('a terminal has one line that is redrawn, with the share, the rate and the time left', () => {
  const { after, end, written } = start(true)
  after(2_000, 20)
  after(100, 1)
  after(1_900, 19)
  end()
  expect(written).toEqual([
    '\r\u001b[2Kreading [#####...................] 20% 20/100, 10/s, 00:00:08 left',
    '\r\u001b[2Kreading [##########..............] 40% 40/100, 10/s, 00:00:06 left',
    '\r\u001b[2Kreading [##########..............] 40% 40/100, 10/s, 00:00:06 left',
    '\n',
  ])
})

test('elsewhere there is a plain line each ten seconds', () => {
  const { after, end, written } = start(false)
  for (let second = 1; second <= 20; second++) after(1_000, 5)
  end()
  expect(written.map(line => /(\d+)%/.exec(line)![1])).toEqual(['10', '60', '100'])
  expect(written.every(line => line.endsWith('\n') && !line.includes('\r'))).toBe(true)
})
