"""Does a service of the stack really answer? Exit 0 when it does, else 1 with the reason on standard error.

    probe.py kafka PORT          one Metadata call: the broker is registered under that port
    probe.py mongo PORT          the member is primary and takes writes
    probe.py mongo-init PORT     the same, after initiating replica set rs0 where that has not happened yet
    probe.py s3 PORT             MinIO takes requests
    probe.py namenode PORT       the NameNode's HTTP port: it is up
    probe.py datanode PORT       the same port: it has left safe mode and knows a live DataNode

An open port is not an answer: a broker listens before it has a leader, a mongod before it is primary.
"""

import json
import socket
import struct
import sys
import urllib.request

TIMEOUT_SECONDS = 3


def main():
    check, port = sys.argv[1], int(sys.argv[2])
    try:
        CHECKS[check](port)
    except Exception as error:  # whatever it is, the caller retries and shows the last one
        sys.exit(f"{check} on 127.0.0.1:{port}: {error}")


def kafka(port):
    """Metadata v1 by hand: a Kafka client library would be the only reason to install one here."""
    client = b"affluent-stack"
    # api key 3, version 1, correlation id 1, client id, no topics
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        reader = connection.makefile("rb")

        def take(form):
            return struct.unpack(form, reader.read(struct.calcsize(form)))[0]

        def text():
            length = take(">h")
            return reader.read(length).decode() if length >= 0 else None

        take(">i"), take(">i")  # size, correlation id
        brokers = []
        for _ in range(take(">i")):
            take(">i")  # node id
            brokers.append((text(), take(">i")))
            text()  # rack
    if ("127.0.0.1", port) not in brokers:
        raise RuntimeError(f"the broker there advertises {brokers}")


def connect(port):
    import pymongo

    return pymongo.MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=TIMEOUT_SECONDS * 1000
    )


def mongo(port):
    hello = connect(port).admin.command("hello")
    if not hello.get("isWritablePrimary"):
        raise RuntimeError("no primary elected yet")


def mongo_init(port):
    import pymongo.errors

    admin = connect(port).admin
    member = f"127.0.0.1:{port}"
    try:
        config = admin.command("replSetGetConfig")["config"]
        # The data was made by a stack on another port: without this the member would wait for itself for ever.
        if config["members"][0]["host"] != member:
            config["members"][0]["host"] = member
            config["version"] += 1
            admin.command("replSetReconfig", config, force=True)
    except pymongo.errors.OperationFailure as error:
        if error.code != 94:  # NotYetInitialized
            raise
        admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": member}]})
    mongo(port)


def get(url):
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        return answer.read()


def s3(port):
    get(f"http://127.0.0.1:{port}/minio/health/ready")


def namenode(port):
    state = json.loads(get(f"http://127.0.0.1:{port}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"))["beans"][0]
    return state


def datanode(port):
    state = namenode(port)
    if state["NumLiveDataNodes"] < 1 or state["FSState"] != "Operational":
        raise RuntimeError(f"{state['NumLiveDataNodes']} DataNodes, {state['FSState']}")


CHECKS = {
    "kafka": kafka,
    "mongo": mongo,
    "mongo-init": mongo_init,
    "s3": s3,
    "namenode": namenode,
    "datanode": datanode,
}

if __name__ == "__main__":
    main()
