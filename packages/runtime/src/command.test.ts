import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { inOneLine } from './command.ts'

test.each([
  [new Error('connect ECONNREFUSED 127.0.0.1:1'), 'connect ECONNREFUSED 127.0.0.1:1'],
  [new AggregateError([new Error('connect ECONNREFUSED ::1:1')], ''), 'connect ECONNREFUSED ::1:1'],
  [Object.assign(new Error(''), { code: 'CONNECT_TIMEOUT' }), 'CONNECT_TIMEOUT'],
  [new Error('one\n   two\nthree'), 'one; two; three'],
  ['a text', 'a text'],
  [undefined, 'undefined'],
])('an error in one line: %s', (error, line) => expect(inOneLine(error)).toBe(line))

test('a command’s output is whole, however late it is read from the pipe', async () => {
  const command = join(import.meta.dirname, 'command.ts')
  const script = `
    import { endCommand } from ${JSON.stringify(command)}
    for (let line = 0; line < 4_000; line++) console.log(String(line).padStart(99, '.'))
    console.error('.'.repeat(300_000))
    endCommand(1)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const sizes = [0, 0]
  // The process has written all that it can before the first byte is read.
  await once(child.stdout, 'readable')
  for (const [index, stream] of [child.stdout, child.stderr].entries())
    stream.on('data', (bytes: Buffer) => {
      sizes[index]! += bytes.length
    })
  const [code] = await once(child, 'close')
  expect([code, ...sizes]).toEqual([1, 400_000, 300_001])
})
