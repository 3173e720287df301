import { expect, test } from 'vitest'
import { createPasswords, passwordFaults } from './passwords.ts'
import { createSlowHash } from './slow-hash.ts'

test.each([
  ['abc', ['must have at least 8 characters']],
  ['ﬁﬁﬁ', ['must have at least 8 characters']],
  ['x'.repeat(129), ['must have at most 128 characters']],
  ['correct horse battery staple', []],
  ['верблюд лошадь', []],
  ['𠮷𠮷𠮷𠮷𠮷𠮷𠮷𠮷', []],
  ['x'.repeat(128), []],
])('the form of %s: %j', (password, faults) => expect(passwordFaults(password)).toEqual(faults))

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

test('a hash of another cost is made anew, unless others wait to be hashed', async () => {
  const cheap = createSlowHash({ of: 'password', cost: 4, atOnce: 1, maxWaiting: 10 })
  const dear = createSlowHash({ of: 'password', cost: 5, atOnce: 1, maxWaiting: 10 })
  const [before, now] = [await createPasswords(cheap), await createPasswords(dear, 4)]
  const hash = await before.hash('correct horse')
  expect(await before.renew('correct horse', hash)).toBeUndefined()
  const renewed = await now.renew('correct horse', hash)
  expect(renewed).toMatch(/^\$2b\$05\$/)
  expect(await now.matches('correct horse', renewed)).toBe(true)
  const others = [dear.hash('x'), dear.hash('y')]
  expect(await now.renew('correct horse', hash)).toBeUndefined()
  await Promise.all(others)
})
