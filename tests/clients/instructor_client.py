"""instructor over the openai package, in its modes."""

import instructor
import openai
import pydantic

from check import MODEL, PERSON, URL, equal, run


class Person(pydantic.BaseModel):
    name: str
    age: int


def ask(mode, scene, **more):
    client = instructor.from_openai(openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0), mode=mode)
    return client.chat.completions.create(model=MODEL, response_model=Person, max_retries=0,
                                          messages=[{"role": "user", "content": f"Now @{scene}"}], **more)


def check_tools():
    """Mode.TOOLS"""
    equal(ask(instructor.Mode.TOOLS, "Person").model_dump(), PERSON)


def check_json():
    """Mode.JSON"""
    equal(ask(instructor.Mode.JSON, "json").model_dump(), PERSON)


def check_json_schema():
    """Mode.JSON_SCHEMA"""
    equal(ask(instructor.Mode.JSON_SCHEMA, "json").model_dump(), PERSON)


if __name__ == "__main__":
    run("instructor", globals())
