import { expect, test } from 'vitest'
import { maskName } from './names.ts'

test.each([
  ['Alice Smith', 'Alice S.'],
  ['Alice Mary van der Berg', 'Alice B.'],
  ['Prince', 'Prince'],
  ['  Bob   jones ', 'Bob J.'],
  ['李 小龙', '李 小.'],
])('%s is shown as %s', (fullName, masked) => expect(maskName(fullName)).toBe(masked))
