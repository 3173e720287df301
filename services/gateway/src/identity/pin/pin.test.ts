import { expect, test } from 'vitest'
import { pinFault } from './pin.ts'

test.each([
  '0000',
  '1111',
  '999999',
  '1234',
  '4321',
  '012345',
  '987654',
  '7890',
  '0987',
  '1212',
  '121212',
  '123123',
])('%s is refused as one that everybody tries', pin => expect(pinFault(pin)).toMatch(/^must not/))

test.each(['482915', '2580', '1357', '1379', '73919', '1221', '112358'])('%s may be set', pin =>
  expect(pinFault(pin)).toBeUndefined(),
)

test.each(['', '123', '1234567', '12a4', '１２３４', '1234\n', ' 4829', '-123', '1e34'])(
  '%j is no PIN',
  pin => expect(pinFault(pin)).toBe('must be 4 to 6 digits'),
)
