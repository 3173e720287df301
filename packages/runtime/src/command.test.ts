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
