# Residency over one NATS server that all regions share: with the permissions of docs/nats.md a region's relay works, and
# reads neither the streams of others nor what they are told; nor can it speak for them.

use strict;
use warnings;

use Test::More;

use PgTide::Keys;
use PgTide::Mesh;
use PgTide::Nats;
use PgTide::NatsWire;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

my $PORT = 4250;
my $URL = "nats://127.0.0.1:$PORT";
my $keys = PgTide::Keys->new;
my ($US, $EU, $AP) = @PgTide::Mesh::REGION{qw(us eu ap)};
my %key = map { $_ => $keys->nkey('user') } qw(us eu ap);

# What docs/nats.md shows for eu-west, for that region.
sub permissions
{
	my ($region) = @_;
	open my $in, '<', "$ENV{TIDE_TOP}/docs/nats.md" or die $!;
	local $/;
	my ($block) = <$in> =~ /```nats\n(permissions: .*?)```/s or die 'docs/nats.md shows no permissions';
	return $block =~ s/eu-west/$region/gr;
}
my $users = join "\n", map {
	my ($side, $region) = ($_, $PgTide::Mesh::REGION{$_});
	my $rights = permissions($region);
	"{ nkey: $key{$side}{public}, $rights }, { user: $side, password: person, $rights }"
} qw(eu ap);
my $nats = PgTide::Nats->new(name => 'one', url => $URL, ctl_options => [qw(--user us --password person)], config => <<"END")->start;
listen: "127.0.0.1:$PORT"
jetstream { store_dir: "data" }
authorization { users: [ { nkey: $key{us}{public} }, { user: us, password: person }, $users ] }
END

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
$mesh->sql_all('CREATE TABLE customer (id int PRIMARY KEY, region text NOT NULL, name text); CREATE TABLE goods (id int PRIMARY KEY)');
$mesh->class('people', residency => { column => 'region', regions => { $US => JSON::PP::true } });
$mesh->class('shop');
$mesh->add_table('customer', 'people');
$mesh->add_table('goods', 'shop');
$mesh->sql('us', "INSERT INTO customer SELECT n, (ARRAY['$US', '$EU', '$AP'])[n % 3 + 1], 'v' FROM generate_series(1, 30) n");
$mesh->start_relay($_, env => { NATS_SEED => $key{$_}{seed} }) for $mesh->sides;
for my $side (qw(eu ap))
{
	my $region = $PgTide::Mesh::REGION{$side};
	$mesh->sql($side, sprintf q{SELECT tide.link_add('us-east', %s)},
		PgTide::Duo::jsonb({ transport => 'nats', url => $URL, nkey_seed => 'env:NATS_SEED', own_stream => JSON::PP::true, inbox_prefix => "_INBOX_$region" }));
}
ok(defined $mesh->wait_copied($_, 'us', 120), "$_ has its copies") for qw(eu ap);
$mesh->sql('us', q{UPDATE customer SET name = 'later'; INSERT INTO goods VALUES (1)});
$mesh->settle_one('us', $_) for qw(eu ap);
is($mesh->sql($_, 'SELECT count(*), min(region), max(region), max(name), (SELECT count(*) FROM goods) FROM customer'),
	join('|', 10, ($PgTide::Mesh::REGION{$_}) x 2, 'later', 1), "$_ has its rows") for qw(eu ap);
is($mesh->sql('us', 'SELECT options FROM tide.rows_publisher') =~ /_INBOX_/ ? 'told' : 'not told', 'not told', 'the publisher has an inbox of its own');

# What eu could try.
my ($own, $other) = map { "TIDE_ROWS_$US+$_" } $EU, $AP;
# As bytes: what the server says first to these lines.
sub said
{
	my ($lines) = @_;
	my $wire = PgTide::NatsWire->new(address => "127.0.0.1:$PORT", connect => { user => 'eu', pass => 'person' });
	$wire->_send("SUB _INBOX_$EU.spy 1\r\n$lines\r\n");
	my $answer = eval
	{
		local $SIG{ALRM} = sub { die "late\n" };
		alarm 10;
		my $line;
		do { $line = $wire->_line(10) } until $line =~ /^(?:-ERR|MSG|HMSG)/;
		alarm 0;
		$line;
	};
	alarm 0;
	return $answer // "nothing: $@";
}

sub asked
{
	my ($api, $body) = @_;
	$body //= '';
	return said("PUB \$JS.API.$api _INBOX_$EU.spy " . length($body) . "\r\n$body");
}
like(asked("STREAM.INFO.$own"), qr/^MSG/, 'eu may look at its stream');
like(asked("STREAM.MSG.GET.$own", '{"seq": 1}'), qr/^MSG/, '... and read it');
my $copy = qq({"name": "SPY", "subjects": ["spy"], "sources": [{"name": "$other"}]});
my $consumer = qq({"stream_name": "$other", "config": {"durable_name": "spy", "ack_policy": "explicit", "filter_subject": "tide.>"}});
my $hidden = qr/Permissions Violation/i;
like(asked(@$_), $hidden, "not $_->[0]")
  for ["STREAM.INFO.$other"], [ "STREAM.MSG.GET.$other", '{"seq": 1}' ], ["CONSUMER.INFO.$other.tide_$AP"], [ "CONSUMER.DURABLE.CREATE.$other.spy", $consumer ],
  [ "CONSUMER.CREATE.$other.spy", $consumer ], [ "CONSUMER.CREATE.$other", $consumer ], [ "CONSUMER.MSG.NEXT.$other.tide_$AP", '1' ], [ 'STREAM.CREATE.SPY', $copy ],
  [ "STREAM.UPDATE.$own", $copy ], ["STREAM.DELETE.$other"], ["STREAM.PURGE.$other"], ["DIRECT.GET.$other"];
like(said("SUB $_ 9"), $hidden, "eu can't listen to $_") for "tide.rows.$US.$AP.frames", 'tide.rows.>', '>', "_INBOX_$AP.>", '_INBOX.>', '$JS.>', '_TIDE.>', '*.rows.*.*.*';
like(said("PUB $_ 2\r\n{}"), $hidden, "... nor say $_") for "_TIDE.rows.$US.$AP.confirm", "_TIDE.rows.$US.confirm", "tide.rows.$US.$AP.frames", "\$JS.ACK.$other.tide_$AP.1.1.1.1.0";

# A relay that hangs, with both publishers: another one takes them over.
$mesh->relay('us')->freeze;
my $spare = PgTide::Relay->new(name => 'spare', conninfo => $mesh->node('us')->relay_conninfo, env => { NATS_SEED => $key{us}{seed} })->start(limit => 40);
$mesh->sql('us', q{UPDATE customer SET name = 'taken over'});
$mesh->settle_one('us', $_) for qw(eu ap);
$mesh->relay('us')->thaw;
$mesh->sql('us', q{UPDATE customer SET name = 'and awake'});
$mesh->settle_one('us', $_) for qw(eu ap);
is($mesh->sql($_, q{SELECT count(*) FILTER (WHERE name = 'and awake'), count(*) FROM customer}), '10|10', "$_: another relay publishes when one hangs") for qw(eu ap);
$mesh->nothing_special('nothing was copied twice');
is($spare->stop, 0, 'the spare ends with status 0');

# Nothing of that is needed: the relays never asked for more than they may.
unlike($mesh->relay($_)->log_text, qr/permission/i, "the relay of $_ was refused nothing") for qw(eu ap);
# A removed link tidies up with these rights, too.
$mesh->unlink('eu', 'us');
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0, 60), 'a link is removed');
ok(defined wait_until(sub { !defined $nats->stream_messages($own) }, 60, "$own to go"), '... and its stream');
is($mesh->sql('us', q{SELECT string_agg(pipeline, ' ') FROM tide.rows_publisher}), "rows:publish:$AP", '... and its publisher');
unlike($mesh->relay('eu')->log_text, qr/permission/i, '... refused nothing');
$mesh->stop;
$nats->stop;
done_testing();
