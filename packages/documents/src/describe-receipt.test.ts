import { expect, test } from 'vitest'
import { type CompletedTransfer, describeReceipt, sideOfUser } from './describe-receipt.ts'

const transfer: CompletedTransfer = {
  id: '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f11',
  type: 'transfer',
  amount: 1_250n,
  currency: 'USD',
  completedAt: new Date(0),
  from: { userId: 'alice', code: 'PW-A' },
  to: { userId: 'bob', code: 'PW-B' },
}
const names = new Map([
  ['alice', 'Alice Smith'],
  ['bob', 'Bob Brown'],
])
const receiptFor = (userId: string, over: Partial<CompletedTransfer> = {}) => {
  const of = { ...transfer, ...over }
  return describeReceipt({
    ...{ transfer: of, userId, names, language: 'en', publicUrl: 'https://pay.example' },
    side: sideOfUser(of, userId)!,
    codes: { codeOf: ({ side }) => `CODE-${side}` },
  })
}

test('each side reads its own name in full and the other one as strangers see it', () => {
  expect(receiptFor('alice')).toMatchObject({
    side: 'sender',
    from: { name: 'Alice Smith', walletCode: 'PW-A' },
    to: { name: 'Bob B.', walletCode: 'PW-B' },
    amount: '12.50',
  })
  expect(receiptFor('bob')).toMatchObject({
    side: 'recipient',
    from: { name: 'Alice S.' },
    to: { name: 'Bob Brown' },
  })
})

test('the address that checks it holds the reference and the code, and nothing else', () => {
  const { checkUrl, reference, code } = receiptFor('bob')
  expect(checkUrl).toBe(`https://pay.example/v1/receipts/verify?reference=${reference}&code=${code}`)
})

test('the outside world and the wallets of the system are no party; a name that is unknown is empty', () => {
  expect(receiptFor('bob', { from: { userId: null, code: null } }).from).toBeNull()
  expect(receiptFor('bob', { from: null }).from).toBeNull()
  expect(receiptFor('bob', { from: { userId: 'gone', code: 'PW-C' } }).from).toEqual({
    name: '',
    walletCode: 'PW-C',
  })
})

test('a stranger has no side', () => expect(sideOfUser(transfer, 'carol')).toBeUndefined())
