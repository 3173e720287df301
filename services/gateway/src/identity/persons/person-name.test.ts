import { describe, expect, test } from 'vitest'
import { fullName, label } from './person-name.ts'

const faultOf = (name: string): string | null => {
  const { error } = fullName.safeParse(name)
  return error ? error.issues[0]!.message : null
}

test.each([
  ...['李', 'O', '王小明', 'Anna', 'Alice Smith', "Miles O'Brien", 'Miles O’Brien', 'Jean-Luc Picard'],
  ...['José Ñuñez', 'Jose\u0301', 'Nguyễn Thị Ánh', 'Nguyễn', 'Gaŀla·Pi', 'Marc·l·lo', 'אבי כהן'],
  ...['محمد علي', 'علی\u200cرضا', 'क्\u200dष', 'ශ්\u200dරී', 'สมชาย', '김 철수', 'ƛ', 'J.R. Smith', 'St.John'],
  ...['Dr. Ada Lovelace', 'Sammy Davis, Jr.', 'X Æ A-12', 'Ravi s/o Kumar', 'Siti a/p Ali', 'Nuñez (Bob)'],
  ...['ʻOkina', 'Θεόδωρος', 'Ӄ', 'A'.repeat(100)],
])('%j is a name', name => expect(fullName.parse(name)).toBe(name))

describe('what is no name', () => {
  test.each(['', ' ', '\u00a0', '\u3000', 'A'.repeat(101)])('%j for its length', name =>
    expect(faultOf(name)).toMatch(/^must have at (least|most)/),
  )
  test.each([
    ...['\u200b\u200b', '\u2800', '\u3164', '\u115f\u1160', '\uffa0', '\u00ad', 'A\u202eB', '\u2066A\u2069'],
    ...[
      'A\u0000',
      'A\nB',
      'A\u2028B',
      'A\u200bB',
      'A\u200dB',
      'A\u200cB',
      '\u200cعلی',
      'A\ufeffB',
      'A\ue000',
    ],
    ...['A\ufe0f', 'A\u034fB', 'A\u{e0041}', 'A\u061cB', 'A\u180eB'],
  ])('%j for what nobody sees', name => expect(faultOf(name)).toMatch(/invisible/))
  test.each(['42', '...', '🎉', '-', '·', '\u0301\u0301'])('%j for want of a letter', name =>
    expect(faultOf(name)).toMatch(/letter/),
  )
  test.each([
    ...[
      'You won: https://evil.example/claim',
      'Win http://x',
      'go to www.evil',
      'WWW.EVIL',
      'evil.example',
      'a/b/c',
    ],
    ...[
      'Bob evil.com',
      'Bob EVIL.COM',
      'ｅｖｉｌ．ｃｏｍ',
      'http：／／x',
      'evil⁄claim',
      'a∕bc',
      'c:\\x',
      'me@evil',
      '例え.テスト',
    ],
  ])('%j for what mail programs make a link of', name => expect(faultOf(name)).toMatch(/link/))
})

test('a label may be of digits and signs, but must be seen', () => {
  expect(label(20).parse(' Till 4 / east ')).toBe('Till 4 / east')
  expect(label(20).safeParse('\u200b').success).toBe(false)
  expect(label(20).safeParse('a\u202eb').success).toBe(false)
})
