/** XML from anyone: what is refused, what is kept as it was, what can never become markup. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { XML_BYTES_MAX, XML_DEPTH_MAX, XML_NODES_MAX } from './limits.ts';
import {
  appendCopy,
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  createXml,
  ensureElement,
  parseXml,
  removeElement,
  serializeXml,
  setAttributes,
  setText,
  textOf,
} from './xml.ts';

const isRefused = (error: unknown): boolean => error instanceof Failure && error.code === 'usage_invalid';

const HOSTILE: readonly [name: string, text: string][] = [
  ['nothing', ''],
  ['text without an element', 'hello'],
  ['a document type', '<!DOCTYPE domain><domain/>'],
  ['an entity bomb', '<!DOCTYPE d [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><d>&b;</d>'],
  ['a document type after the element', '<d/><!DOCTYPE d>'],
  ['an external entity', '<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>'],
  ['an entity that is not declared', '<d>&nope;</d>'],
  ['an element that is not closed', '<a><b></a>'],
  ['a tag that is not closed', '<a b="'],
  ['a comment that is not closed', '<a><!-- '],
  ['a CDATA section that is not closed', '<a><![CDATA[ '],
  ['two roots', '<a/><b/>'],
  ['an attribute twice', '<a b="1" b="2"/>'],
  ['an attribute without quotes', '<a b=1/>'],
  ['a prefix that is not bound', '<a><x:b/></a>'],
  ['elements nested too deep', '<a>'.repeat(XML_DEPTH_MAX + 1) + '</a>'.repeat(XML_DEPTH_MAX + 1)],
  ['depth hidden behind comments', '<a><!--</a></a>-->'.repeat(XML_DEPTH_MAX + 1)],
  ['depth hidden in attributes', '<a b="</a></a>">'.repeat(XML_DEPTH_MAX + 1)],
  ['too many elements', `<a>${'<b/>'.repeat(XML_NODES_MAX / 2)}</a>`],
  ['too many attributes', `<a ${Array.from({ length: XML_NODES_MAX }, (_, i) => `b${i}="1"`).join(' ')}/>`],
  ['more than a mebibyte', `<a>${'x'.repeat(XML_BYTES_MAX)}</a>`],
  ['more than a mebibyte in fewer characters', `<a>${'€'.repeat(XML_BYTES_MAX / 2)}</a>`],
];

for (const [name, text] of HOSTILE) {
  test(`${name} is refused`, () => {
    assert.throws(() => parseXml(text, 'a test'), isRefused);
  });
}

test('a scan of hostile tags takes time in proportion to the text', () => {
  const started = performance.now();
  for (const piece of ['<a b="', "<a b='", '<!--', '<![CDATA[', '<', '</', '<?']) {
    assert.throws(() => parseXml(piece.repeat(100_000), 'a test'), isRefused);
  }
  assert(performance.now() - started < 2000);
});

test('a root of another name is refused', () => {
  assert.throws(() => parseXml('<network/>', 'a test', 'domain'), isRefused);
});

const KEPT = `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <!-- kept -->
  <name>a &amp; b &lt; c</name>
  <metadata><x:y xmlns:x="urn:x" z="1&quot;2"/></metadata>
  <unknown-to-us deep="yes"><é>ü</é></unknown-to-us>
  <qemu:commandline><qemu:arg value="-x"/></qemu:commandline>
</domain>`;

test('what is not touched is written as it was read', () => {
  assert.equal(serializeXml(parseXml(KEPT, 'a test')), KEPT);
});

test('one change leaves everything else as it was', () => {
  const root = parseXml(KEPT, 'a test', 'domain');
  const name = childOf(root, 'name');
  assert(name !== undefined);
  setText(name, 'new');
  assert.equal(serializeXml(root), KEPT.replace('a &amp; b &lt; c', 'new'));
});

test('elements are found, made, copied and removed', () => {
  const root = parseXml('<d><a i="1">x</a><b/><a i="2"><c> y </c></a></d>', 'a test');
  assert.deepEqual(
    childrenOf(root, 'a').map((a) => attributeOf(a, 'i')),
    ['1', '2'],
  );
  assert.equal(childrenOf(root).length, 3);
  assert.equal(childOf(root, 'a', 'c'), undefined);
  assert.equal(textOf(root, 'a'), 'x');
  assert.equal(attributeOf(childOf(root, 'b'), 'none'), undefined);
  const [first, second] = childrenOf(root, 'a');
  assert(first !== undefined && second !== undefined);
  assert.equal(textOf(second, 'c'), 'y');
  removeElement(first);
  assert.equal(ensureElement(root, 'b'), childOf(root, 'b'));
  setAttributes(ensureElement(root, 'e'), { f: '1', g: undefined });
  appendCopy(root, parseXml('<other><in/></other>', 'another'));
  assert.equal(serializeXml(root), '<d><b/><a i="2"><c> y </c></a><e f="1"/><other><in/></other></d>');
});

test('a value never becomes markup', () => {
  const evil = `"/><evil a='&'>]]>`;
  const root = createXml('d');
  appendElement(root, 'e', { a: evil }, evil);
  const text = serializeXml(root);
  const again = parseXml(text, 'a test');
  assert.equal(attributeOf(childOf(again, 'e'), 'a'), evil);
  assert.equal(textOf(again, 'e'), evil);
  assert.equal(childrenOf(again).length, 1);
});

test('a value that XML cannot carry is refused', () => {
  const root = createXml('d');
  for (const value of ['\u0000', '\u001b[0m', '\ud800', '\uffff']) {
    assert.throws(() => appendElement(root, 'e', {}, value), isRefused);
    assert.throws(() => setAttributes(root, { a: value }), isRefused);
  }
});
