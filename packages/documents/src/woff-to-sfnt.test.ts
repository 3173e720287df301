import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { woffToSfnt } from './woff-to-sfnt.ts'

const woff = readFileSync(
  createRequire(import.meta.url).resolve('@fontsource/unifontex/files/unifontex-latin-400-normal.woff'),
)

test('the plain font has the size that the WOFF file tells of it, and every table begins where it says', () => {
  const sfnt = woffToSfnt(woff)
  expect(sfnt.length).toBe(woff.readUInt32BE(16))
  const count = sfnt.readUInt16BE(4)
  expect(count).toBe(woff.readUInt16BE(12))
  const tags = Array.from({ length: count }, (_, index) =>
    sfnt.toString('latin1', 12 + index * 16, 16 + index * 16),
  )
  expect(tags).toEqual(expect.arrayContaining(['cmap', 'glyf', 'head', 'loca']))
  const head = sfnt.readUInt32BE(12 + tags.indexOf('head') * 16 + 8)
  expect(sfnt.readUInt32BE(head + 12)).toBe(0x5f0f3cf5)
})

test('another file is refused', () => expect(() => woffToSfnt(Buffer.from('OTTO....'))).toThrow('no WOFF'))
