import { expect, test } from 'vitest'
import { addExamples, composeExample } from './compose-examples.ts'

const schemas = { Party: { type: 'object', properties: { name: { type: 'string', example: 'Bob B.' } } } }

test('an example is made of those of the parts', () => {
  const schema = {
    type: 'object',
    required: ['id', 'from', 'status', 'tags', 'note'],
    properties: {
      id: { type: 'string', format: 'uuid' },
      from: { anyOf: [{ $ref: '#/components/schemas/Party' }, { type: 'null' }] },
      status: { type: 'string', enum: ['active', 'ended'] },
      tags: { type: 'array', items: { type: 'string', example: 'a' } },
      note: { type: ['string', 'null'] },
      mentioned: { type: 'string', example: 'x' },
      unmentioned: { type: 'string' },
    },
  }
  expect(composeExample(schema, schemas)).toEqual({
    id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
    from: { name: 'Bob B.' },
    status: 'active',
    tags: ['a'],
    note: null,
    mentioned: 'x',
  })
})

test('a part without any is left out, so that the test of the document finds it', () => {
  const schema = { type: 'object', required: ['name'], properties: { name: { type: 'string' } } }
  expect(JSON.stringify(composeExample(schema, {}))).toBe('{}')
})

test('an example that a route gives itself stays', () => {
  const media = { schema: { type: 'string' }, example: 'mine' }
  const document = {
    paths: { '/a': { get: { responses: { 200: { content: { 'application/json': media } } } } } },
  }
  expect(addExamples(document).paths['/a'].get.responses[200].content['application/json'].example).toBe(
    'mine',
  )
})
