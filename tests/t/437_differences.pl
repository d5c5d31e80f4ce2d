# Regions that are not alike: tables changed on one side only, values and types the other side does not know, another encoding.
# The table, or the row, waits with its reason; others go on; nothing is lost or made up.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @TABLES = qw(altered renamed retyped moods domains fine);

$mesh->sql_all(<<'END');
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN small AS int;
CREATE TABLE altered (id int PRIMARY KEY, v text, gone int);
CREATE TABLE renamed (id int PRIMARY KEY, v text);
CREATE TABLE retyped (id int PRIMARY KEY, v int);
CREATE TABLE moods (id int PRIMARY KEY, m mood);
CREATE TABLE domains (id int PRIMARY KEY, v small);
CREATE TABLE fine (id int PRIMARY KEY);
END
$mesh->sql('eu', 'ALTER DOMAIN small ADD CHECK (VALUE < 100)');
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');

my $n = 0;

# Another table's rows are here.
sub others_go_on
{
	my ($what) = @_;
	$n++;
	$mesh->sql('us', "INSERT INTO fine VALUES ($n)");
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables("$what: others go on", ['fine']);
	return;
}

sub parked
{
	my ($table) = @_;
	return $mesh->sql('eu', "SELECT string_agg(DISTINCT code, ' ') FROM tide.parked_change WHERE table_name = '$table' AND code <> 'TD020'");
}

sub reason
{
	my ($table) = @_;
	return $mesh->sql('eu', "SELECT string_agg(reason, ' ') FROM tide.parked_change WHERE table_name = '$table'");
}

# What waited for the table, or a type, is applied by itself.
sub goes_on
{
	my ($table) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.parked_change WHERE table_name = '$table'", 0, 20),
		"$table: all of it is applied by itself");
	$mesh->settle_one('us', 'eu');
	return $mesh->same_tables("$table: equal", [$table]);
}

sub retry
{
	my ($table) = @_;
	$mesh->sql('eu', "SELECT tide.pending_retry((SELECT min(id) FROM tide.parked_change WHERE table_name = '$table'))");
	$mesh->settle_one('us', 'eu');
	is(parked($table), '', "$table: a retry takes all of it");
	return $mesh->same_tables("$table: equal", [$table]);
}

# Added and dropped on one side.
$mesh->sql('us', 'ALTER TABLE altered DROP gone');
$mesh->sql('us', q{INSERT INTO altered VALUES (1, 'without')});
others_go_on('a column dropped at the origin');
is(parked('altered'), '', '... is no reason to stop');
$mesh->same_tables('... nor for differences', ['altered'], except => ['gone']);
$mesh->sql('us', 'ALTER TABLE altered ADD more text');
$mesh->sql('us', q{INSERT INTO altered (id, v, more) VALUES (2, 'with', 'more')});
$mesh->sql('us', q{UPDATE altered SET v = 'changed'; DELETE FROM altered WHERE id = 1});
others_go_on('a column added at the origin');
is(parked('altered'), 'TD014', '... the table waits');
like(reason('altered'), qr/more/, '... and says for what');
$mesh->relay('eu')->kill9;
$mesh->start_relay('eu');
others_go_on('after a restart');
$mesh->sql('eu', 'ALTER TABLE altered ADD more text, DROP gone');
goes_on('altered');

$mesh->sql('us', 'ALTER TABLE renamed RENAME v TO w');
$mesh->sql('us', q{INSERT INTO renamed VALUES (1, 'x')});
others_go_on('a column renamed at the origin');
is(parked('renamed'), 'TD014', '... the table waits');
$mesh->sql('eu', 'ALTER TABLE renamed RENAME v TO w');
goes_on('renamed');

# A wider type here; then a narrower one.
$mesh->sql('eu', 'ALTER TABLE retyped ALTER v TYPE bigint');
$mesh->sql('us', q{INSERT INTO retyped VALUES (1, 1), (2, -2147483648), (3, NULL)});
others_go_on('another type here');
is(parked('retyped'), '', '... takes the values of the smaller one');
$mesh->same_tables('... which are the same', ['retyped']);
$mesh->sql('eu', 'ALTER TABLE retyped ALTER v TYPE int');
$mesh->sql('us', 'ALTER TABLE retyped ALTER v TYPE text USING v::text');
$mesh->sql('us', q{INSERT INTO retyped VALUES (4, 'four')});
others_go_on('another type there');
isnt(parked('retyped'), '', '... what does not fit waits');
$mesh->sql('eu', 'ALTER TABLE retyped ALTER v TYPE text USING v::text');
goes_on('retyped');

# Values that are not known here.
$mesh->sql('us', q{ALTER TYPE mood ADD VALUE 'glad'});
$mesh->sql('us', q{INSERT INTO moods VALUES (1, 'glad'), (2, 'sad')});
others_go_on('an enum\'s new value');
is($mesh->sql('eu', 'SELECT id FROM moods'), 2, '... the other row is here');
like(reason('moods'), qr/glad/, '... that one waits and says why');
$mesh->sql('eu', q{ALTER TYPE mood ADD VALUE 'glad'});
goes_on('moods');

$mesh->sql('us', q{INSERT INTO domains VALUES (1, 50), (2, 200)});
others_go_on('a domain that is narrower here');
is($mesh->sql('eu', 'SELECT id FROM domains'), 1, '... the other row is here');
is(parked('domains'), '23514', '... that one waits');
$mesh->sql('eu', 'ALTER DOMAIN small DROP CONSTRAINT small_check');
retry('domains');

# Another encoding: what can be written in it is, what can't waits.
$mesh->sql('eu', q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
my $latin = sub { return $mesh->node('eu')->safe_psql('latin', encode_utf8($_[0])) };
$latin->('CREATE EXTENSION pg_tide');
$latin->(q{SELECT tide.region_init('latin'), tide.class_create('shop', '{"scope": "global"}')});
$latin->(q{CREATE TABLE words (id int PRIMARY KEY, v text, a text[], j jsonb)});
$mesh->sql('us', q{CREATE TABLE words (id int PRIMARY KEY, v text, a text[], j jsonb)});
$latin->(q{SELECT tide.table_add('words', 'shop')});
$mesh->add_table_at('us', 'words', 'shop');
$latin->(sprintf q{SELECT tide.region_add('us-east', %s), tide.link_add('us-east')}, PgTide::Duo::literal($mesh->conninfo('us')));
$mesh->sql('us', encode_utf8(q{INSERT INTO words VALUES (1, 'Grüße', '{ß}', '{"ö": "ä"}')}));
my $relay = PgTide::Relay->new(name => 'latin', conninfo => $mesh->node('eu')->relay_conninfo =~ s/dbname=postgres/dbname=latin/r)->start;
ok(defined wait_until(sub { $latin->('SELECT count(*) FROM words') eq '1' }, 60, 'the first word'), 'another encoding: the first copy');
$mesh->sql('us', encode_utf8(q{INSERT INTO words VALUES (2, 'Füße', '{ü,NULL}', '["é"]'), (3, '世界', NULL, NULL), (4, 'ok', NULL, NULL)}));
$mesh->sql('us', encode_utf8(q{UPDATE words SET v = 'größer' WHERE id = 1}));
ok(defined wait_until(sub { $latin->('SELECT count(*) FROM words') eq '3' }, 60, 'more words'), '... and changes');
my $SHOW = q{SELECT id, v, a, j FROM words WHERE id <> 3 ORDER BY id};
ok(defined wait_until(sub { $latin->("SET client_encoding = 'UTF8'; $SHOW") eq $mesh->sql('us', $SHOW) }, 30, 'the same words'), '... say the same');
is($latin->(q{SELECT count(*), min(code) FROM tide.parked_change}), '1|22P05', '... what it has no letters for waits');
is($relay->stop, 0, 'its relay ends with status 0');

# An origin that does not say what its bytes mean: a warning when a table is added; what is no UTF-8 stops the link, aloud.
$mesh->sql('us', q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
my $bytes = sub { my $err = ''; $mesh->node('us')->psql('bytes', $_[0], stderr => \$err, on_error_die => 1); return $err };
$bytes->(q{CREATE EXTENSION pg_tide; SELECT tide.region_init('bytes'), tide.class_create('shop', '{"scope": "global"}'); CREATE TABLE fine (id int PRIMARY KEY, v text)});
like($bytes->(q{SELECT tide.table_add('fine', 'shop')}), qr/WARNING:  this database does not say which encoding its text has \(SQL_ASCII\)/, 'SQL_ASCII: said when a table is added');
$mesh->sql('eu', 'ALTER TABLE fine ADD COLUMN v text');
$mesh->sql('eu', sprintf q{SELECT tide.region_add('bytes', %s), tide.link_add('bytes')}, PgTide::Duo::literal($mesh->conninfo('us') =~ s/dbname=postgres/dbname=bytes/r));
ok(defined $mesh->wait_value('eu', q{SELECT state FROM tide.links WHERE region = 'bytes'}, 'streaming', 60), '... a link from there');
$bytes->(q{INSERT INTO fine VALUES (10001, 'plain')});
ok(defined $mesh->wait_value('eu', 'SELECT v FROM fine WHERE id = 10001', 'plain', 60), '... brings what is UTF-8');
$bytes->(q{INSERT INTO fine VALUES (10002, E'\\xe9\\xff')});
ok(defined $mesh->wait_value('eu', q{SELECT state FROM tide.links WHERE region = 'bytes' AND last_error ~ 'invalid byte sequence for encoding "UTF8": 0xe9 0xff'}, 'error', 60),
	'... and says which bytes stop it');
is($mesh->sql('eu', 'SELECT count(*) FROM fine WHERE id = 10002'), 0, '... making nothing up');

is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
