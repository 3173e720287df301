// biome-ignore lint/suspicious/noExplicitAny: JSON of every shape
type Json = any

const FORMATS: Record<string, string> = {
  uuid: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
  'date-time': '2026-01-31T09:30:00.000Z',
}

/**
 * One example of a JSON Schema, composed of the examples of its parts; undefined if a part has none. Optional members
 * are included if they have an example of their own; a nullable value without an example is null.
 */
export const composeExample = (schema: Json, schemas: Record<string, Json>): Json => {
  if (schema.example !== undefined) return schema.example
  if (schema.$ref !== undefined) return composeExample(schemas[schema.$ref.split('/').at(-1)], schemas)
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return schema.enum[0]
  if (schema.default !== undefined) return schema.default
  const oneOf = (schema.anyOf ?? schema.oneOf)?.find(({ type }: Json) => type !== 'null')
  if (oneOf) return composeExample(oneOf, schemas)
  if (schema.allOf) {
    return Object.assign({}, ...schema.allOf.map((part: Json) => composeExample(part, schemas)))
  }
  const types: string[] = [schema.type ?? []].flat()
  if (types.includes('object')) {
    const required: string[] = schema.required ?? []
    return Object.fromEntries(
      Object.entries<Json>(schema.properties ?? {})
        .filter(([name, property]) => required.includes(name) || property.example !== undefined)
        .map(([name, property]) => [name, composeExample(property, schemas)]),
    )
  }
  if (types.includes('array')) return [composeExample(schema.items, schemas)]
  if (types.includes('null')) return null
  if (types.includes('boolean')) return true
  return FORMATS[schema.format]
}

/** The OpenAPI document with an example at every JSON body and answer that has none yet. */
export const addExamples = <Document extends object>(document: Document): Document => {
  const { paths, components }: Json = document
  const complete = (content: Json) => {
    const media = content?.['application/json']
    if (!media || media.example !== undefined || media.examples !== undefined) return
    media.example = composeExample(media.schema, components?.schemas ?? {})
  }
  for (const operations of Object.values<Json>(paths ?? {})) {
    for (const { requestBody, responses } of Object.values<Json>(operations)) {
      complete(requestBody?.content)
      for (const response of Object.values<Json>(responses)) complete(response.content)
    }
  }
  return document
}
