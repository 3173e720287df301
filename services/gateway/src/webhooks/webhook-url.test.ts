import { expect, test } from 'vitest'
import { brokenUrlRule } from './webhook-url.ts'

const ruleOf = (url: string, allowPrivate = false) => brokenUrlRule(url, { allowPrivate })

test.each(['https://hooks.example.com', 'https://hooks.example.com:8443/a?b=c', 'https://8.8.8.8/'])(
  '%s is taken',
  url => {
    expect(ruleOf(url)).toBeUndefined()
  },
)

test.each([
  ['http://hooks.example.com', 'must begin with https://'],
  ['ftp://hooks.example.com', 'must begin with https://'],
  ['javascript:alert(1)', 'must begin with https://'],
  ['nowhere', 'must be a URL'],
  ['https://', 'must be a URL'],
  ['https://me:pass@hooks.example.com', 'no user and no password'],
  ['https://me@hooks.example.com', 'no user and no password'],
  ['https://hooks.example.com/#a', 'no fragment'],
  ['https://localhost', 'public address'],
  ['https://a.localhost', 'public address'],
  ['https://127.0.0.1', 'public address'],
  ['https://2130706433', 'public address'],
  ['https://[::1]', 'public address'],
  ['https://10.0.0.1', 'public address'],
  ['https://169.254.169.254', 'public address'],
  [`https://hooks.example.com/${'x'.repeat(2_048)}`, 'at most 2048 characters'],
])('%s is refused', (url, rule) => {
  expect(ruleOf(url)).toContain(rule)
})

test('for development, http and the own network as well; never a password', () => {
  expect(ruleOf('http://127.0.0.1:8000/hook', true)).toBeUndefined()
  expect(ruleOf('ftp://127.0.0.1', true)).toContain('https://')
  expect(ruleOf('http://me:pass@127.0.0.1', true)).toContain('no user')
})
