import { expect, test } from 'vitest'
import { verifyEmailMail } from './mail-for.ts'

const secret = { url: 'https://wallet.example/v1/auth/verify-email', token: 'a-b_c' }
const link = 'https://wallet.example/v1/auth/verify-email?token=a-b_c'

test('the link stands alone on its line of the text', () => {
  const lines = verifyEmailMail('Alice', secret).text.split('\n')
  expect(lines.filter(line => line.includes('token'))).toEqual([link])
})

test('a name is text, never markup', () => {
  const { html } = verifyEmailMail('<img src=x onerror="alert(\'1\')"> & Co', secret)
  expect(html).toContain('Hello &lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; Co,')
  expect(html).toContain(`<a href="${link}">${link}</a>`)
})
