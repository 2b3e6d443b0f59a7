"""Python's `protobuf` package as the oracle of version 2's encodings. It shares no code with ours.

    vectors-v2.py write    writes vectors-v2.json beside this file
    vectors-v2.py check    fails unless vectors-v2.json is what would be written
    vectors-v2.py agree    reads cases from core/tests/python.rs on standard input, one JSON object a line, and fails
                           unless Python translates each to the same

Needs the packages `protobuf` and `grpcio-tools`, for protoc.
"""

import json
import pathlib
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field
from grpc_tools import protoc

HERE = pathlib.Path(__file__).parent
VECTORS = HERE / "vectors-v2.json"
PACKAGE = "conclave.v2"


def load_schema():
    pool = descriptor_pool.DescriptorPool()
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory, "schema")
        arguments = [f"-I{HERE.parent / 'proto'}", f"--descriptor_set_out={out}", "conclave/v2/conclave.proto"]
        if protoc.main(["protoc", *arguments]) != 0:
            sys.exit("protoc refuses the schema")
        for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
            pool.Add(file)
    return pool


POOL = load_schema()
FILE = POOL.FindFileContainingSymbol(f"{PACKAGE}.ClientFrame")


def new(name):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))()


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_text(message):
    return compact(json_format.MessageToDict(message))


def to_bytes(message):
    return message.SerializeToString(deterministic=True)


def from_text(name, text):
    return json_format.Parse(text, new(name), ignore_unknown_fields=True)


def from_bytes(name, data):
    message = new(name)
    message.ParseFromString(data)
    message.DiscardUnknownFields()
    return message


def refuses(parse, name, value):
    try:
        parse(name, value)
    except Exception:  # The package documents no common type.
        return True
    return False


# Values of each type. The first is the plain one.
VALUES = {
    Field.TYPE_UINT32: [7, 2**32 - 1, 0],
    Field.TYPE_UINT64: [7, 2**53 + 1, 2**64 - 1, 0],
    Field.TYPE_INT64: [7, -1, -(2**63), 2**63 - 1, 0],
    Field.TYPE_BOOL: [True, False],
    Field.TYPE_STRING: ["text", "Grüße, 世界 🦀", "\"\\/\b\f\n\r\t\x00\x1f\x7f\u2028", ""],
    Field.TYPE_BYTES: [b"bytes", b"\xfb\xff\xfe", b"\x00", b""],
    Field.TYPE_ENUM: [1, 99, -1, 0],
}


def put(message, field, value):
    if field.is_repeated:
        getattr(message, field.name).extend(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


def full(descriptor):
    """A message with all fields set; of each oneof, the first member."""
    message = new(descriptor.name)
    taken = set()
    for field in descriptor.fields:
        if field.containing_oneof is not None:
            if field.containing_oneof.name in taken:
                continue
            taken.add(field.containing_oneof.name)
        put(message, field, values(field)[0])
    return message


def values(field):
    plain = [full(field.message_type), new(field.message_type.name)] if field.message_type else VALUES[field.type]
    return [plain, plain[:1]] if field.is_repeated else plain


def samples(descriptor):
    """One message without a field, one with all, and one for each field and value."""
    yield new(descriptor.name)
    yield full(descriptor)
    for field in descriptor.fields:
        for value in values(field):
            message = new(descriptor.name)
            put(message, field, value)
            yield message


# JSON that no printer writes, but parsers must accept.
TEXTS = [
    ("Stored", ' {\n"stream" :\t1 }\r\n'),
    ("ReceiptList", '{"seq":1,"receipts":[{"atMs":2}],"stream":3}'),
    ("Stored", '{"stamp_ms":1}'),
    ("Stored", '{"\\u0073eq":1}'),
    ("Stored", '{"seq":18446744073709551615}'),
    ("Stored", '{"seq":1e2,"stream":1.0,"stampMs":-12.5e1}'),
    ("Stored", '{"seq":"1e2","stream":"1.0","stampMs":"007"}'),
    ("Stored", '{"seq":1e19,"stampMs":-9007199254740993}'),
    ("Stored", '{"seq":-0,"stream":0.0,"stampMs":-0.0}'),
    ("Stored", '{"seq":null,"stampMs":null,"stream":null}'),
    ("Stored", '{"stampMs":"-9223372036854775808"}'),
    ("Stored", '{"new":{"a":[1,{"b":null},"\\ud83e\\udd80",1e5,true]},"seq":1,"Seq":2}'),
    ("Limits", '{"window":"4294967295","frameBytes":4294967295.0}'),
    ("Content", '{"mentions":[1,"2",3e0],"mediaType":"\\ud83e\\udd80"}'),
    ("Content", '{"mentions":[]}'),
    ("Content", '{"hops":3,"budget":"64"}'),
    ("Content", '{"mentions":null,"text":null}'),
    ("Content", '{"text":"a\\u0000b\\/"}'),
    ("Error", '{"code":10}'),
    ("Error", '{"code":"10"}'),
    ("Error", '{"code":1.0}'),
    ("Error", '{"code":-2147483648}'),
    ("Proof", '{"signature":"-_"}'),
    ("Proof", '{"signature":"-_8"}'),
    ("Proof", '{"signature":"+/8="}'),
    ("Proof", '{"signature":"+/8"}'),
    ("Proof", '{"signature":""}'),
    ("Body", '{"content":{"text":"a"},"sealed":null}'),
    ("Body", '{"content":null}'),
    ("StreamName", '{"number":0}'),
    ("StreamName", '{"channel":""}'),
    ("Deliveries", '{"messages":[{},{"from":{},"seq":1},{"body":{"sealed":{}}}],"stream":"9"}'),
    ("ClientFrame", '{"request":{"ping":{},"id":"1"}}'),
]

# Bytes that no encoder writes, but parsers must accept.
BYTES = [
    ("Stored", "10021001"),
    ("Stored", "20011802100308048001ff01"),
    ("Stored", "088180808080808080807f"),
    ("Stored", "888080800001"),
    ("Stored", "2080808080808080808001"),
    ("Stored", "0a0010012500000000"),
    ("Stored", "7b7c1001"),
    ("Stored", "7b08010b0c7c"),
    ("Stored", "7b" * 100 + "7c" * 100),
    ("Limits", "08ffffffffffffffffff01"),
    ("Error", "08ffffffff0f"),
    ("Error", "08ff7f"),
    ("Content", "2001220202032004"),
    ("Content", "22028000"),
    ("Content", "2200"),
    ("Content", "12016112016212017f"),
    ("Body", "0a031201610a021801"),
    ("Body", "0a0312016112000a00"),
    ("Body", "0a0012000a031201610a0012020a00"),
    ("Body", "120008010a00"),
    ("Page", "120208011800080112020802"),
    ("Welcome", "0a030a01610a030a01620a03120163"),
]

REFUSED_TEXTS = [
    ("Stored", ""),
    ("Stored", "null"),
    ("Stored", "{"),
    ("Stored", "{} {}"),
    ("Stored", '{"seq":1,}'),
    ("Stored", '{"seq":01}'),
    ("Stored", "\ufeff{}"),
    ("Stored", '{"seq":1,"seq":1}'),
    ("Stored", '{"stampMs":1,"stampMs":null}'),
    ("Stored", '{"seq":1.5}'),
    ("Stored", '{"seq":"1.5"}'),
    ("Stored", '{"seq":""}'),
    ("Stored", '{"seq":" 1"}'),
    ("Stored", '{"seq":"1x"}'),
    ("Stored", '{"seq":"NaN"}'),
    ("Stored", '{"seq":-1}'),
    ("Stored", '{"seq":18446744073709551616}'),
    ("Stored", '{"seq":"18446744073709551616"}'),
    ("Stored", '{"seq":18446744073709551615.0}'),
    ("Stored", '{"seq":1e400}'),
    ("Stored", '{"stampMs":9223372036854775808}'),
    ("Stored", '{"stampMs":-9223372036854775809}'),
    ("Stored", '{"seq":true}'),
    ("Stored", '{"seq":[1]}'),
    ("Stored", '{"seq":{}}'),
    ("Channel", '{"member":1}'),
    ("Channel", '{"member":"true"}'),
    ("Limits", '{"window":4294967296}'),
    ("Limits", '{"window":-1}'),
    ("Content", '{"text":1}'),
    ("Content", '{"hops":4294967296}'),
    ("Content", '{"text":"\\ud800"}'),
    ("Content", '{"text":"\\udc00\\ud800"}'),
    ("Content", '{"text":"\n"}'),
    ("Content", '{"mentions":1}'),
    ("Content", '{"mentions":[null]}'),
    ("Content", '{"mentions":[[]]}'),
    ("Page", '{"messages":[null]}'),
    ("Page", '{"messages":{}}'),
    ("Error", '{"code":2147483648}'),
    ("Error", '{"code":[]}'),
    ("Proof", '{"signature":"A"}'),
    ("Proof", '{"signature":[1]}'),
    ("Body", '{"content":{},"sealed":{}}'),
    ("Body", '{"content":1}'),
]

REFUSED_BYTES = [
    ("Stored", "08"),
    ("Stored", "0880"),
    ("Stored", "08ffffffffffffffffffff01"),
    ("Stored", "88808080800001"),
    ("Stored", "888080801001"),
    ("Stored", "0000"),
    ("Stored", "0c"),
    ("Stored", "0e"),
    ("Stored", "0f"),
    ("Stored", "7b"),
    ("Stored", "7b74"),
    ("Stored", "7b" * 101 + "7c" * 101),
    ("Stored", "7affffffff0f"),
    ("Stored", "2500"),
    ("Content", "1201ff"),
    ("Content", "1201ff1200"),
    ("Content", "1203eda080"),
    ("Content", "22020280"),
    ("Body", "0a0112"),
    ("Body", "0a01120a0100"),
    ("Body", "0a0212ff1200"),
    ("Page", "120108"),
]


def vectors():
    """Lines of vectors-v2.json, by their kind."""
    both = []
    for name in FILE.message_types_by_name:
        seen = set()
        for message in samples(FILE.message_types_by_name[name]):
            data = to_bytes(message)
            if data not in seen:
                seen.add(data)
                both.append({"message": name, "json": json_format.MessageToDict(message), "hex": data.hex()})
    for texts in [REFUSED_TEXTS, REFUSED_BYTES]:
        for name, value in texts:
            parse, value = (from_text, value) if texts is REFUSED_TEXTS else (from_bytes, bytes.fromhex(value))
            assert refuses(parse, name, value), (name, value)
    return {
        "messages": both,
        "texts": [{"message": n, "text": t, "hex": to_bytes(from_text(n, t)).hex()} for n, t in TEXTS],
        "bytes": [
            {"message": n, "hex": bytes.fromhex(h).hex(), "json": to_text(from_bytes(n, bytes.fromhex(h)))}
            for n, h in BYTES
        ],
        "refused_texts": [{"message": n, "text": t} for n, t in REFUSED_TEXTS],
        "refused_bytes": [{"message": n, "hex": bytes.fromhex(h).hex()} for n, h in REFUSED_BYTES],
    }


def file_text():
    lists = []
    for kind, lines in vectors().items():
        lists.append(f'"{kind}": [\n' + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]")
    return "{\n" + ",\n".join(lists) + "\n}\n"


def disagreement(case):
    """What Python makes of a case, if it is something else than what our side made of it."""
    name = case["message"]
    if "text" in case:
        # A text that our side accepted, and the bytes that it made of it.
        theirs = to_bytes(from_text(name, case["text"])).hex()
        return None if theirs == case["hex"] else theirs
    data = bytes.fromhex(case["hex"])
    if case["json"] is None:
        return None if refuses(from_bytes, name, data) else "accepted"
    message = from_bytes(name, data)
    theirs = to_text(message)
    if theirs != case["json"]:
        return theirs
    back = from_text(name, case["json"])
    if back != message:
        return str(back)
    canonical = to_bytes(back).hex()
    return None if canonical == case["canonical"] else canonical


def agree():
    count = failures = 0
    for line in sys.stdin:
        case = json.loads(line)
        count += 1
        try:
            theirs = disagreement(case)
        except Exception as error:
            theirs = f"{type(error).__name__}: {error}"
        if theirs is not None:
            failures += 1
            print(f"{line.strip()}\n  Python: {theirs}", file=sys.stderr)
    print(f"{count} cases, {failures} disagreements")
    return failures == 0 and count > 0


def main():
    match sys.argv[1:]:
        case ["write"]:
            VECTORS.write_text(file_text(), encoding="utf-8")
        case ["check"]:
            if VECTORS.read_text(encoding="utf-8") != file_text():
                sys.exit("vectors-v2.json is not what Python makes of the schema: run `vectors-v2.py write`")
        case ["agree"]:
            if not agree():
                sys.exit(1)
        case _:
            sys.exit(__doc__)


main()
