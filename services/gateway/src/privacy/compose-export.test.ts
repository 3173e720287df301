import { expect, test } from 'vitest'
import { composeExport, type ExportSections } from './compose-export.ts'

const readAll = async (sections: ExportSections) => {
  const pieces: string[] = []
  for await (const piece of composeExport(sections)) pieces.push(piece)
  return pieces
}

test('values and lists, page by page, are one JSON document', async () => {
  const pages = [[{ n: 1 }, { n: 2 }], [], [{ n: 3, text: 'ü "quoted" \u2028' }]]
  const pieces = await readAll([
    { name: 'profile', read: async () => ({ fullName: 'Alice' }) },
    { name: 'none', read: async () => null },
    {
      name: 'list',
      readPage: async cursor => {
        const at = Number(cursor ?? 0)
        return { items: pages[at]!, nextCursor: at < 2 ? String(at + 1) : null }
      },
    },
    { name: 'empty', readPage: async () => ({ items: [], nextCursor: null }) },
  ])
  expect(JSON.parse(pieces.join(''))).toEqual({
    profile: { fullName: 'Alice' },
    none: null,
    list: pages.flat(),
    empty: [],
  })
})

test('a long list comes in several pieces', async () => {
  const pieces = await readAll([
    {
      name: 'long',
      readPage: async cursor => ({
        items: [{ text: 'x'.repeat(50_000) }],
        nextCursor: Number(cursor ?? 0) < 9 ? String(Number(cursor ?? 0) + 1) : null,
      }),
    },
  ])
  expect(pieces.length).toBeGreaterThan(3)
  expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThan(200_000)
  expect(JSON.parse(pieces.join('')).long).toHaveLength(10)
})
