import { expect, test } from 'vitest'
import { canonicalEmail } from './email-address.ts'

test.each([
  ['alice@example.com', 'alice@example.com'],
  ['  Alice@Example.COM\n', 'alice@example.com'],
  ['a.b+tag@example.com', 'a.b+tag@example.com'],
  ["o'brien@example.com", "o'brien@example.com"],
  ['x@xn--e1afmkfd.xn--p1ai', 'x@xn--e1afmkfd.xn--p1ai'],
  ['x@пример.рф', 'x@xn--e1afmkfd.xn--p1ai'],
  ['x@ПРИМЕР.РФ', 'x@xn--e1afmkfd.xn--p1ai'],
  ['x@bücher.example', 'x@xn--bcher-kva.example'],
  ['x@bu\u0308cher.example', 'x@xn--bcher-kva.example'],
  ['x@例え。テスト', 'x@xn--r8jz45g.xn--zckzah'],
  ['x@ｅｘａｍｐｌｅ.com', 'x@example.com'],
])('%j is %s', (text, canonical) => {
  expect(canonicalEmail(text)).toBe(canonical)
  expect(canonicalEmail(canonical)).toBe(canonical)
})

test.each([
  ...['', '@', 'a', 'a@', '@b.c', 'a@b', 'a b@example.com', 'a@b c.com', 'a@@example.com', '.a@example.com'],
  ...['a..b@example.com', 'a.@example.com', 'a@example..com', 'a@.example.com', 'a@-x.com', 'a@127.0.0.1'],
  ...['a@[127.0.0.1]', 'a@0x7f.1', 'a@ex%61mple.com', 'a@example.com/x', 'a@example.com:25', 'ü@example.com'],
  ...[
    '"a"@example.com',
    'a\u0000@example.com',
    'a@exa\u200bmple.com',

    'a@example.com,b@example.com',
  ],
  ...[`${'a'.repeat(65)}@example.com`, `a@${'b.'.repeat(130)}com`, 'a<b@example.com', 'a@example.123'],
])('%j is no address', text => expect(canonicalEmail(text)).toBeNull())
