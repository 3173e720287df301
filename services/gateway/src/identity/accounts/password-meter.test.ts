import { afterAll, expect, test } from 'vitest'
import { createPasswordMeter } from './password-meter.ts'

const meter = createPasswordMeter()
afterAll(() => meter.stop())

const ABOUT = ['Alice Smith', 'alice.smith@example.com']

test.each([
  'Password1!',
  'P@ssw0rd',
  'Qwerty123!',
  '1Qaz2wsx!',
  'Zaq1@wsx',
  'Qwerty123!@#',
  'qwertyuiop[]',
  'Pennywire1!',
  'Pennywire2026!',
  'Alice.Smith1',
  'AliceSmith2024!',
  'Smith-2024',
  'Welcome1!',
  'Welcome2025!',
  'Summer2024!',
  'Winter2023!',
  'Monday2025!',
  'Superman123!',
  'Admin@2024',
  'Adm1n@2024',
  'iloveyou2',
  'abcd1234!@#$',
  'aaaaaaaaaaaa',
  'a'.repeat(128),
  '1234567890'.repeat(12),
])('%s is guessed first', async password => expect(await meter.isGuessedFirst(password, ABOUT)).toBe(true))

test.each([
  'Correct-Horse-7',
  'Battery-Staple-8',
  'Zx9#kLm2',
  `Canary-${'x'.repeat(20)}7`,
  'Smith-Wesson-Alibi-3',
  'correct horse battery staple',
  'timid ocelot walnut gravel',
  'верблюд лошадь скрепка',
  '馬馬虎虎電池釘書針',
  `Aa1!${'é'.repeat(100)}`,
  'x'.repeat(10) + 'correct horse battery staple'.repeat(4),
])('%s is good', async password => expect(await meter.isGuessedFirst(password, ABOUT)).toBe(false))

/** The slowest inputs for zxcvbn: substitutions, repeats, many known words, the longest text. */
const WORST = [
  'Aa1!4@4$5!1|03l33t0oqweiloveyoudr@g0n6G9g1tr0ub4dor770op@$$w0rdl33t@4$5'.repeat(2).slice(0, 128),
  '4@'.repeat(64),
  '@$$w0rd'.repeat(18),
  '1!|'.repeat(42),
  'a'.repeat(128),
  'abcdefgh'.repeat(16),
  '20242025'.repeat(16),
  '\u{1F600}'.repeat(64),
]
const MANY_WORDS = [Array.from({ length: 60 }, (_, each) => `a${each}q`).join(' '), 'a1.b2.c3@example.com']

test.each(WORST)('while %s is checked the main thread goes on', async password => {
  let turns = 0
  let isOver = false
  const turn = () => {
    turns++
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  await meter.isGuessedFirst(password, MANY_WORDS)
  isOver = true
  // Checked on the main thread, the answer would come before the first turn.
  expect(turns).toBeGreaterThan(0)
})

test('so many wait and no more; then it takes as many again', async () => {
  for (let round = 0; round < 2; round++) {
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () => meter.isGuessedFirst('correct horse battery', [])),
    )
    const refused = results.flatMap(result => (result.status === 'rejected' ? [result.reason.code] : []))
    expect(refused).toEqual(Array(14).fill('SERVICE_UNAVAILABLE'))
  }
})

test('a check that never ends is ended with its thread, and the next one is made by another', async () => {
  let timers = 0
  const stuck = createPasswordMeter({
    now: () => 0,
    elapsed: () => 0,
    // The first timer belongs to the start; the second belongs to the first check and fires at once.
    after: (_ms, action) => {
      if (++timers === 2) queueMicrotask(action)
      return () => {}
    },
  })
  try {
    await expect(stuck.isGuessedFirst('4@'.repeat(64), MANY_WORDS)).rejects.toMatchObject({
      code: 'SERVICE_UNAVAILABLE',
    })
    expect(await stuck.isGuessedFirst('Password1!', [])).toBe(true)
  } finally {
    await stuck.stop()
  }
}, 60_000)
