import { expect, test } from 'vitest'
import { createPasswords, passwordFaults } from './passwords.ts'
import { createSlowHash } from './slow-hash.ts'

test('all broken rules are named at once', () => {
  expect(passwordFaults('abc')).toEqual([
    'must have at least 8 characters',
    'must have an upper-case letter',
    'must have a digit',
    'must have a special character',
  ])
  expect(passwordFaults('Correct-Horse-7')).toEqual([])
  expect(passwordFaults(`Aa1!${'x'.repeat(125)}`)).toEqual(['must have at most 128 characters'])
})

test.each(['Password1!', 'P@ssw0rd', 'Qwerty123!', '1Qaz2wsx!', 'Pennywire1!', 'Alice.Smith1', 'Welcome1!'])(
  '%s keeps the rules and is guessed first',
  password =>
    expect(passwordFaults(password, ['Alice Smith', 'alice.smith@example.com'])).toEqual([
      expect.stringMatching(/guessed first/),
    ]),
)
test.each(['Correct-Horse-7', 'Zx9#kLm2', `Canary-${'x'.repeat(20)}7`, 'Smith-Wesson-Alibi-3'])(
  '%s is good',
  password => expect(passwordFaults(password, ['Alice Smith', 'alice.smith@example.com'])).toEqual([]),
)

test('every character counts, also beyond the 72 bytes where bcrypt stops', async () => {
  const passwords = await createPasswords(
    createSlowHash({ of: 'password', cost: 4, atOnce: 2, maxWaiting: 10 }),
  )
  const long = `Aa1!${'x'.repeat(100)}`
  const hash = await passwords.hash(`${long}y`)
  expect(await passwords.matches(`${long}y`, hash)).toBe(true)
  expect(await passwords.matches(`${long}z`, hash)).toBe(false)
})

test('for an account that does not exist no password is right, not even the one that stands for it', async () => {
  const passwords = await createPasswords(
    createSlowHash({ of: 'password', cost: 4, atOnce: 2, maxWaiting: 10 }),
  )
  expect(await passwords.matches('nobody', undefined)).toBe(false)
  expect(await passwords.matches('', undefined)).toBe(false)
})

test('what comes while the queue is full is refused, and the queue keeps its order', async () => {
  const slowHash = createSlowHash({ of: 'password', cost: 4, atOnce: 1, maxWaiting: 2 })
  const done: number[] = []
  const accepted = [1, 2, 3].map(async number => {
    await slowHash.hash('x')
    done.push(number)
  })
  await expect(slowHash.hash('x')).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' })
  await Promise.all(accepted)
  expect(done).toEqual([1, 2, 3])
  await slowHash.hash('x')
})
