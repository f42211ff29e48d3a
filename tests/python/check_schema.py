"""Checks pipelines against the JSON schema, as editors do: python check_schema.py SCHEMA PIPELINE…

Prints a list with the verdict on each pipeline: `sound`, or what is wrong.
"""

import json
import re
import sys

import jsonschema
import yaml



class Loader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 has them: the library takes `1e-3` for text."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
verdicts = []
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as file:
        document = yaml.load(file, Loader)
    errors = sorted(error.message for error in validator.iter_errors(document))
    verdicts.append(errors[0] if errors else "sound")
print(json.dumps(verdicts))
