import { expect, test } from 'vitest'
import { visualRuns } from './visual-runs.ts'

/** The letters in visual order, from left to right. */
const seen = (line: string) =>
  visualRuns(line)
    .map(({ text, rightToLeft }) => (rightToLeft ? [...text].reverse().join('') : text))
    .join('')

test.each([
  ['Alice Smith', 'Alice Smith'],
  ['', ''],
  ['אבי כהן', 'ןהכ יבא'],
  ['محمد علي', 'يلع دمحم'],
  ['אבי 123 כהן', 'ןהכ 123 יבא'],
  ['rent אבי כהן May', 'rent ןהכ יבא May'],
  ['אבי Smith כהן', 'ןהכ Smith יבא'],
  ['(אבי) כהן', 'ןהכ (יבא)'],
  ['محمد ١٢٣ x', 'x ١٢٣ دمحم'],
  ['אבי Smith 12 x', 'Smith 12 x יבא'],
  ['אבי כ.', '.כ יבא'],
])('%j is seen as %j', (line, visual) => expect(seen(line)).toBe(visual))
