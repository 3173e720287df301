import { expect, test } from 'vitest'
import { mailFor } from './mail-for.ts'

const secret = { url: 'https://wallet.example/v1/auth/verify-email', token: 'a-b_c', code: '482915' }

test.each([
  ['no link', 'verify_email', {}],
  ['a link that is code', 'reset_password', { ...secret, url: 'javascript:alert(1)' }],
  ['a token that is markup', 'reset_password', { ...secret, token: '"><script>' }],
  ['a day that is none', 'deletion_requested', { dueAt: '<b>1</b>' }],
  ['a code that is no digits', 'pin_reset', { code: '<b>1</b>' }],
  ['an unknown template', 'new', secret],
])('%s is refused', (_what, name, odd) => {
  expect(() => mailFor('en', name, 'Alice', odd)).toThrow()
})

test.each(['en', 'de'] as const)('%s: what a secret holds is in the mail, and only that', language => {
  expect(mailFor(language, 'reset_password', 'Alice', secret).text).toContain(`${secret.url}?token=a-b_c`)
  expect(mailFor(language, 'pin_changed', 'Alice', secret).text).not.toContain('482915')
})
