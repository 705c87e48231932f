"""
`NginxRing` against a running nginx.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from knet.hashring.proxies import NginxRing
from tests.conformance.live.cases import MEMBERSHIPS, endpoints
from tests.conformance.live.servers import Process, ask, free_port

HEAD = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        {locations}
    }}
    {upstreams}
}}
"""


@pytest.fixture(scope="module")
def nginx(
    _upstreams: None, ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """
    One nginx with an upstream for each membership; its address.
    """
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.skip("no nginx on the PATH: apt-get install nginx-light")
    directory = tmp_path_factory.mktemp("nginx")
    port = free_port()
    blocks = []
    for name, servers in MEMBERSHIPS.items():
        lines = [f"server {e} weight={e.weight};" for e in endpoints(servers, ports)]
        blocks.append(
            f"upstream {name} {{ hash $http_x_key consistent; {' '.join(lines)} keepalive 8; }}"
        )
    locations = [f"location = /{name} {{ proxy_pass http://{name}; }}" for name in MEMBERSHIPS]
    config = directory / "nginx.conf"
    config.write_text(
        HEAD.format(port=port, locations="\n".join(locations), upstreams="\n".join(blocks))
    )
    with Process(
        [binary, "-p", directory, "-c", config, "-e", "stderr"], directory, ("127.0.0.1", port)
    ):
        yield "127.0.0.1", port


@pytest.mark.parametrize("name", MEMBERSHIPS)
def test_nginx_picks_alike(
    name: str, nginx: tuple[str, int], ports: dict[str, int], keys: list[str]
) -> None:
    """
    Every key goes where nginx sends it.
    """
    ring = NginxRing(endpoints(MEMBERSHIPS[name], ports))

    assert list(map(str, ring.get_many(keys))) == ask(nginx, keys, path=f"/{name}")
