import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { appendCheckpointLines, readCheckpointLines, readLastCheckpointLine } from './checkpoint-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'pennywire-checkpoints-'))
afterAll(() => rmSync(folder, { recursive: true }))

const linesOf = async (path: string) => {
  const lines: Array<{ line: string; torn: boolean }> = []
  for await (const line of readCheckpointLines(path)) lines.push(line)
  return lines
}

test('lines are appended to a file that only its owner reads, in a folder that is made', async () => {
  const path = join(folder, 'below', 'one.txt')
  expect(await readLastCheckpointLine(path)).toBeUndefined()
  await appendCheckpointLines(path, ['first', 'second'])
  await appendCheckpointLines(path, ['third'])
  expect(readFileSync(path, 'utf8')).toBe('first\nsecond\nthird\n')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(await readLastCheckpointLine(path)).toBe('third')
})

test('a torn last line is told, not counted, and cut off by the next one', async () => {
  const path = join(folder, 'torn.txt')
  await appendCheckpointLines(path, ['first'])
  appendFileSync(path, 'seco')
  expect(await readLastCheckpointLine(path)).toBe('first')
  expect(await linesOf(path)).toEqual([
    { line: 'first', torn: false },
    { line: 'seco', torn: true },
  ])
  await appendCheckpointLines(path, ['second'])
  expect(readFileSync(path, 'utf8')).toBe('first\nsecond\n')
})

test('a file of nothing but a torn line begins anew', async () => {
  const path = join(folder, 'only-torn.txt')
  appendFileSync(path, 'fir')
  expect(await readLastCheckpointLine(path)).toBeUndefined()
  await appendCheckpointLines(path, ['first'])
  expect(readFileSync(path, 'utf8')).toBe('first\n')
})

test.each([1, 262_143, 262_144, 262_145, 600_000])('lines of %i bytes are found', async bytes => {
  const path = join(folder, `${bytes}.txt`)
  const lines = ['a', 'b', 'c'].map(letter => letter.repeat(bytes))
  await appendCheckpointLines(path, lines)
  expect(await readLastCheckpointLine(path)).toBe(lines[2])
  appendFileSync(path, 'd'.repeat(bytes))
  expect(await readLastCheckpointLine(path)).toBe(lines[2])
  expect((await linesOf(path)).map(({ line }) => line.length)).toEqual([bytes, bytes, bytes, bytes])
})
