import { expect, test } from 'vitest'
import { MAIL_TEMPLATES, mailFor } from './mail-for.ts'

const secret = { url: 'https://wallet.example/v1/auth/verify-email', token: 'a-b_c', code: '482915' }
const link = 'https://wallet.example/v1/auth/verify-email?token=a-b_c'

test.each(['verify_email', 'reset_password'])('%s: the link stands alone on its line of the text', name => {
  const lines = mailFor(name, 'Alice', secret).text.split('\n')
  expect(lines.filter(line => line.includes('token'))).toEqual([link])
})

test('a code stands alone on its line of the text', () => {
  expect(mailFor('pin_reset', 'Alice', secret).text.split('\n')).toContain('482915')
})

test.each(MAIL_TEMPLATES)('%s: a name is text, never markup', name => {
  const { html, subject, text } = mailFor(name, '<img src=x onerror="alert(\'1\')"> & Co', secret)
  expect(html).toContain('Hello &lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; Co,')
  expect(html).not.toContain('<img')
  if (text.includes(link)) expect(html).toContain(`<a href="${link}">${link}</a>`)
  expect(subject).not.toBe('')
})

test.each([
  ['no link', 'verify_email', {}],
  ['a link that is code', 'reset_password', { ...secret, url: 'javascript:alert(1)' }],
  ['a token that is markup', 'reset_password', { ...secret, token: '"><script>' }],
  ['a code that is no digits', 'pin_reset', { code: '<b>1</b>' }],
])('%s is refused', (_what, name, odd) => {
  expect(() => mailFor(name, 'Alice', odd)).toThrow()
})
