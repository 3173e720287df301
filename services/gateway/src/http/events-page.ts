import type { AsyncApi, Channel, Message } from '@pennywire/contracts/asyncapi.ts'
import { nestedRecords, type RecordSchema, typeText } from '@pennywire/contracts/avro-words.ts'

const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escaped = (text: string) => text.replace(/[&<>"']/g, character => ESCAPES[character]!)
/** Text of the contracts: escaped, with `code` between backticks. */
const prose = (text: string) => escaped(text).replace(/`([^`]+)`/g, '<code>$1</code>')

const DAY_MS = 24 * 60 * 60 * 1_000
const isAvro = ({ payload }: Message) => payload.schemaFormat.includes('avro')

const table = (head: string[], rows: string[][]): string =>
  `<div class="wide"><table><thead><tr>${head.map(cell => `<th>${cell}</th>`).join('')}</tr></thead>` +
  `<tbody>${rows.map(cells => `<tr>${cells.map(cell => `<td>${cell}</td>`).join('')}</tr>`).join('\n')}</tbody></table></div>`

const fieldsTable = ({ fields }: RecordSchema): string =>
  table(
    ['Field', 'Type', 'Meaning'],
    fields.map(({ name, type, doc }) => [
      `<code>${escaped(name)}</code>`,
      escaped(typeText(type)),
      prose(doc),
    ]),
  )

const versionsOf = (versions: NonNullable<Message['x-versions']>): string =>
  versions
    .map(({ version, added, dropped }) =>
      [
        String(version),
        ...(added.length > 0
          ? [`adds ${added.map(path => `<code>${escaped(path)}</code>`).join(', ')}`]
          : []),
        ...(dropped.length > 0
          ? [`drops ${dropped.map(path => `<code>${escaped(path)}</code>`).join(', ')}`]
          : []),
      ].join(' '),
    )
    .join('; ')

const example = ({ headers, payload }: Message['examples'][number]): string =>
  `<details><summary>An example</summary>${table(
    ['Header', 'Value'],
    Object.entries(headers).map(([name, value]) => [
      `<code>${escaped(name)}</code>`,
      `<code>${escaped(value)}</code>`,
    ]),
  )}<pre>${escaped(JSON.stringify(payload, null, 2))}</pre></details>`

const messageSection = (id: string, message: Message): string => {
  const schema = message.payload.schema as unknown as RecordSchema
  const versions = message['x-versions']
  return [
    `<section id="${escaped(id)}"><h3>${escaped(message.title)}</h3>`,
    `<p><code>${escaped(message.name)}</code></p>`,
    ...message.description.split('\n\n').map(part => `<p>${prose(part)}</p>`),
    ...(versions ? [`<p>Versions: ${versionsOf(versions)}.</p>`] : []),
    ...(isAvro(message)
      ? [
          fieldsTable(schema),
          ...nestedRecords(schema.fields).map(
            nested =>
              `<p><code>${escaped(nested.name)}</code>: ${prose(nested.doc)}</p>${fieldsTable(nested)}`,
          ),
        ]
      : []),
    ...message.examples.map(example),
    '</section>',
  ].join('\n')
}

const keptFor = (retentionMs: number) => (retentionMs < 0 ? 'for ever' : `${retentionMs / DAY_MS} days`)

const channelSection = (channel: Channel, messages: Record<string, Message>): string => {
  const { partitions, topicConfiguration } = channel.bindings.kafka
  const retentionMs = (topicConfiguration as Record<string, number>)['retention.ms']!
  const names = Object.keys(channel.messages)
  // Both topics of dead letters have one kind of message, which is described once.
  const described = names.filter(name => messages[name]).map(name => messageSection(name, messages[name]!))
  return [
    `<section id="${escaped(channel.address)}"><h2><code>${escaped(channel.address)}</code></h2>`,
    `<p>${prose(channel.description)}</p>`,
    `<p>${partitions} ${partitions === 1 ? 'partition' : 'partitions'}, kept ${keptFor(retentionMs)}.</p>`,
    `<p>${names.map(name => `<a href="#${escaped(name)}">${escaped(name)}</a>`).join(', ')}</p>`,
    ...described,
    '</section>',
  ].join('\n')
}

/**
 * The page of the AsyncAPI document, whole and without a script. The project's own renderers need `unsafe-inline` or
 * `unsafe-eval`, which no page of the gateway may use, and read a schema at a time where this page can be searched.
 */
export const eventsPage = (document: AsyncApi): string => {
  const { info, channels, components } = document
  const order = Object.values(channels).sort(
    (a, b) =>
      Number(b.tags.some(({ name }) => name === 'open')) - Number(a.tags.some(({ name }) => name === 'open')),
  )
  const left = { ...components.messages }
  const sections = order.map(channel => {
    const section = channelSection(channel, left)
    for (const name of Object.keys(channel.messages)) delete left[name]
    return section
  })
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(info.title)}</title>
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<h1>${escaped(info.title)}</h1>
<p>${prose(info.description)}</p>
<p>This page is made from <a href="/asyncapi.json">the AsyncAPI document</a>, which any AsyncAPI tool reads.</p>
${table(
  ['Topic', 'What is in it', 'For'],
  order.map(({ address, title, tags }) => [
    `<a href="#${escaped(address)}"><code>${escaped(address)}</code></a>`,
    escaped(title),
    tags.some(({ name }) => name === 'open') ? 'every team' : 'Pennywire alone',
  ]),
)}
${sections.join('\n')}
</body>
</html>
`
}
