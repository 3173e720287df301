/** One page of a list; `nextCursor` is null on the last one. */
export type ExportPage = { items: object[]; nextCursor: string | null }

/** What an export consists of, in its order: a value, or a list read page by page. */
export type ExportSections = Array<
  | { name: string; read: () => Promise<object | string | null> }
  | { name: string; readPage: (cursor: string | undefined) => Promise<ExportPage> }
>

/** Of one list at most, so that a cursor that leads in a circle ends. */
const MOST_PAGES = 100_000
/** A piece is passed on once it is longer. */
const PIECE_LETTERS = 128 * 1024

/** The texts of an export, of which the JSON document consists: none of them has to fit a page that grows with the person. */
async function* textsOf(sections: ExportSections): AsyncGenerator<string> {
  let opening = '{'
  for (const section of sections) {
    yield `${opening}${JSON.stringify(section.name)}:`
    opening = ','
    if ('read' in section) {
      yield JSON.stringify(await section.read())
      continue
    }
    let separator = '['
    let cursor: string | undefined
    for (let pages = 0; ; pages++) {
      if (pages === MOST_PAGES) throw new Error(`the list ${section.name} does not end`)
      const { items, nextCursor } = await section.readPage(cursor)
      for (const item of items) {
        yield `${separator}${JSON.stringify(item)}`
        separator = ','
      }
      if (nextCursor === null) break
      cursor = nextCursor
    }
    yield separator === '[' ? '[]' : ']'
  }
  yield '}'
}

/** An export in pieces of some hundred kilobytes, which make one JSON document. */
export async function* composeExport(sections: ExportSections): AsyncGenerator<string> {
  let piece = ''
  for await (const text of textsOf(sections)) {
    piece += text
    if (piece.length < PIECE_LETTERS) continue
    yield piece
    piece = ''
  }
  if (piece !== '') yield piece
}
