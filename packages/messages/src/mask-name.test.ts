import { expect, test } from 'vitest'
import { maskName } from './mask-name.ts'

test.each([
  ['Alice Smith', 'Alice S.'],
  ['Alice Mary van der Berg', 'Alice B.'],
  ['Prince', 'P***'],
  ['王小明', '王***'],
  ['O', '***'],
  ['Jean-Luc', 'J***'],
  ['Alice B', 'Alice ***'],
  ['Bob B.', 'Bob ***'],
  ['E\u0301mile', 'E\u0301***'],
  ['क्षमा', 'क्ष***'],
  ['محمد علي', 'محمد ع.'],
  ['  Bob   jones ', 'Bob J.'],
  ['李 小龙', '李 小.'],
])('%s is shown as %s', (fullName, masked) => expect(maskName(fullName)).toBe(masked))
